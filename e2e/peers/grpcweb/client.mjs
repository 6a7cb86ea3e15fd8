// Clients of gRPC-Web that know nothing of us: Connect's, by fetch and by Node's own HTTP/1.1 and HTTP/2, and Google's in text mode.
//
//   client.mjs DESCRIPTORS http://HOST:PORT https://HOST:PORT
//
// DESCRIPTORS is a file with those of grpc.testing.TestService, which answers behind both addresses; behind
// grpc.testing.UnimplementedService is nobody. NODE_EXTRA_CA_CERTS names the authority of the second address.
import { readFileSync } from "node:fs";
import { createFileRegistry, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport as byNode } from "@connectrpc/connect-node";
import { createGrpcWebTransport as byFetch } from "@connectrpc/connect-web";
import grpcWeb from "grpc-web";
import xhr2 from "xhr2";

globalThis.XMLHttpRequest = xhr2.XMLHttpRequest;

const [descriptors, http, https] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const service = registry.getService("grpc.testing.TestService");
const nobody = registry.getService("grpc.testing.UnimplementedService");
const SLOW_MICROS = 1_000_000;

function check(holds, what) {
  if (!holds) throw new Error(what());
}
function equal(got, wanted, what) {
  check(JSON.stringify(got) === JSON.stringify(wanted), () => `${what} is ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`);
}
async function fails(call, code, message) {
  const error = ConnectError.from(await call.then(() => undefined, (e) => e ?? new Error("nothing")));
  equal([Code[error.code], error.rawMessage], [Code[code], message], "failure");
  return error;
}

// Checks of a transport of Connect.
function connectChecks(transport) {
  const client = createClient(service, transport);
  return {
    async unary() {
      const answer = await client.unaryCall({ responseSize: 3, payload: { body: new Uint8Array(5) } });
      equal(answer.payload.body.length, 3, "size");
    },
    async a_megabyte_both_ways() {
      const answer = await client.unaryCall({ responseSize: 1_000_000, payload: { body: new Uint8Array(1_000_000) } });
      equal(answer.payload.body.length, 1_000_000, "size");
    },
    async a_stream() {
      const sizes = [1, 70_000, 3, 500_000];
      const got = [];
      const responseParameters = sizes.map((size) => ({ size }));
      for await (const answer of client.streamingOutputCall({ responseParameters })) got.push(answer.payload.body.length);
      equal(got, sizes, "sizes");
    },
    async messages_come_when_they_are_sent() {
      const responseParameters = [{ size: 1 }, { size: 1, intervalUs: SLOW_MICROS }];
      const times = [];
      for await (const _ of client.streamingOutputCall({ responseParameters })) times.push(performance.now());
      equal(times.length, 2, "messages");
      check(times[1] - times[0] > SLOW_MICROS / 2000, () => `both came within ${times[1] - times[0]} ms`);
    },
    async fields_and_trailers() {
      let header, trailer;
      await client.unaryCall({ responseSize: 1 }, {
        headers: { "x-grpc-test-echo-initial": "first", "x-grpc-test-echo-trailing-bin": "q83v" },
        onHeader: (h) => (header = h.get("x-grpc-test-echo-initial")),
        onTrailer: (t) => (trailer = t.get("x-grpc-test-echo-trailing-bin")),
      });
      equal([header, trailer], ["first", "q83v"], "fields");
    },
    async a_status() {
      await fails(client.unaryCall({ responseStatus: { code: 5, message: "not hére" } }), Code.NotFound, "not hére");
    },
    async a_status_with_details() {
      const error = await fails(client.unaryCall({}, { headers: { "x-details": "look" } }), Code.FailedPrecondition, "not so");
      equal(error.details.map((d) => d.type), ["grpc.testing.EchoStatus"], "details");
    },
    async a_method_that_is_not_there() {
      const error = ConnectError.from(await client.unimplementedCall({}).catch((e) => e));
      equal(Code[error.code], "Unimplemented", "code");
    },
    async a_deadline() {
      const late = { responseParameters: [{ size: 1, intervalUs: 30 * SLOW_MICROS }] };
      const call = async () => {
        for await (const _ of client.streamingOutputCall(late, { timeoutMs: 300 }));
      };
      const error = ConnectError.from(await call().then(() => undefined, (e) => e));
      equal(Code[error.code], "DeadlineExceeded", "code");
    },
    async a_failure_of_the_gateway() {
      await fails(createClient(nobody, transport).unimplementedCall({}), Code.Unavailable, "upstream_connect_error");
    },
  };
}

// Checks of Google's client, in text mode or not.
function googleChecks(base, format) {
  const client = new grpcWeb.GrpcWebClientBase({ format });
  const method = (name, kind) => {
    const { input, output, parent } = service.methods.find((m) => m.name === name);
    class Message {}
    return new grpcWeb.MethodDescriptor(`/${parent.typeName}/${name}`, kind, Message, Message,
      (request) => toBinary(input, create(input, request)), (bytes) => fromBinary(output, bytes));
  };
  const url = (m) => `${base}${m.name}`;
  const unary = method("UnaryCall", "unary");
  const call = (request, fields) =>
    new Promise((done, failed) => client.rpcCall(url(unary), request, fields, unary, (e, answer) => (e ? failed(e) : done(answer))));
  return {
    async unary() {
      for (const size of [0, 1, 2, 3, 4, 5, 100_000]) {
        const answer = await call({ responseSize: size, payload: { body: new Uint8Array(size) } }, {});
        equal(answer.payload.body.length, size, "size");
      }
    },
    async a_status() {
      const error = await call({ responseStatus: { code: 5, message: "no" } }, {}).catch((e) => e);
      equal([error.code, error.message], [5, "no"], "failure");
    },
    async a_stream() {
      if (format === "binary") return; // XMLHttpRequest shows no part of one
      const streaming = method("StreamingOutputCall", "server_streaming");
      const sizes = [1, 2, 3, 70_000];
      const request = { responseParameters: sizes.map((size) => ({ size })) };
      const got = [];
      await new Promise((done, failed) => {
        const stream = client.serverStreaming(url(streaming), request, {}, streaming);
        stream.on("data", (answer) => got.push(answer.payload.body.length));
        stream.on("error", failed);
        stream.on("end", done);
      });
      equal(got, sizes, "sizes");
    },
  };
}

// What a page of another origin asks for, and sees.
const page = {
  async a_preflight_and_the_call() {
    const url = `${http}/grpc.testing.TestService/UnaryCall`;
    const asked = { "access-control-request-method": "POST", "access-control-request-headers": "content-type,x-grpc-web,x-user-agent" };
    const origin = "https://page.example.com";
    const may = await fetch(url, { method: "OPTIONS", headers: { origin, ...asked } });
    equal([may.ok, may.headers.get("access-control-allow-origin")], [true, origin], "preflight");
    check(/content-type/i.test(may.headers.get("access-control-allow-headers")), () => may.headers.get("access-control-allow-headers"));
    const headers = { origin, "content-type": "application/grpc-web+proto", "x-grpc-web": "1" };
    // One empty message.
    const got = await fetch(url, { method: "POST", headers, body: new Uint8Array(5) });
    const exposed = got.headers.get("access-control-expose-headers");
    check(/grpc-status/.test(exposed) && /grpc-message/.test(exposed), () => `exposed: ${exposed}`);
    equal(got.headers.get("content-type"), "application/grpc-web+proto", "content type");
    const body = Buffer.from(await got.arrayBuffer()).toString("latin1");
    check(/\x80[^]{4}grpc-status: 0\r\n/.test(body), () => JSON.stringify(body));
  },
  async no_base64() {
    const headers = { "content-type": "application/grpc-web-text" };
    const got = await fetch(`${http}/grpc.testing.TestService/UnaryCall`, { method: "POST", headers, body: "AAA!" });
    equal([got.status, got.headers.get("grpc-status"), got.headers.get("content-type")], [200, "13", "application/grpc-web-text"], "answer");
  },
};

const all = {
  "fetch, HTTP/1.1": connectChecks(byFetch({ baseUrl: http })),
  "node, HTTP/1.1": connectChecks(byNode({ baseUrl: http, httpVersion: "1.1" })),
  "node, HTTP/2 in clear": connectChecks(byNode({ baseUrl: http, httpVersion: "2" })),
  "node, HTTP/2 over TLS": connectChecks(byNode({ baseUrl: https, httpVersion: "2" })),
  "grpc-web, text": googleChecks(http, "text"),
  "grpc-web, binary": googleChecks(http, "binary"),
  "page": page,
};
let good = true;
for (const [name, checks] of Object.entries(all)) {
  for (const [check, run] of Object.entries(checks)) {
    let result = "ok";
    try {
      await run();
    } catch (e) {
      good = false;
      result = e.stack ?? String(e);
    }
    console.log(`${name}: ${check}: ${result}`);
  }
}
process.exit(good ? 0 : 1);
