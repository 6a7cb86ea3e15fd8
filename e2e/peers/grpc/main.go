// A gRPC server with reflection, and a client, that run the official interoperability cases (google.golang.org/grpc/interop).
// The tool grpcurl of go.mod is another client.
//
//	peer server [CERT KEY]    serves on a free port, which it prints; with TLS where a certificate is given
//	peer client ADDR CASE     runs one case in clear; exits 0 when it holds
//	peer status ADDR          makes one call and prints the code of its status and its message
//	peer descriptors FILE     writes the descriptors of its services
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: peer server|client|status|descriptors ...")
	}
	switch args := os.Args[2:]; os.Args[1] {
	case "server":
		serve(args)
	case "client":
		run(args[0], args[1])
	case "status":
		tell(args[0])
	case "descriptors":
		describe(args[0])
	default:
		log.Fatalf("unknown command %q", os.Args[1])
	}
}

func serve(args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var options []grpc.ServerOption
	if len(args) == 2 {
		tls, err := credentials.NewServerTLSFromFile(args[0], args[1])
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(tls))
	}
	options = append(options, grpc.UnaryInterceptor(details))
	server := grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	reflection.Register(server)
	fmt.Println(listener.Addr())
	log.Fatal(server.Serve(listener))
}

// A call with the field x-details fails with a status that has a message of details.
func details(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	fields, _ := metadata.FromIncomingContext(ctx)
	if asked := fields.Get("x-details"); len(asked) > 0 {
		failed, err := status.New(codes.FailedPrecondition, "not so").WithDetails(&testgrpc.EchoStatus{Code: 7, Message: asked[0]})
		if err != nil {
			return nil, err
		}
		return nil, failed.Err()
	}
	return next(ctx, request)
}

func dial(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

func run(address, name string) {
	conn := dial(address)
	defer conn.Close()
	client := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	switch name {
	case "empty_unary":
		interop.DoEmptyUnaryCall(ctx, client)
	case "large_unary":
		interop.DoLargeUnaryCall(ctx, client)
	case "client_streaming":
		interop.DoClientStreaming(ctx, client)
	case "server_streaming":
		interop.DoServerStreaming(ctx, client)
	case "ping_pong":
		interop.DoPingPong(ctx, client)
	case "empty_stream":
		interop.DoEmptyStream(ctx, client)
	case "timeout_on_sleeping_server":
		interop.DoTimeoutOnSleepingServer(ctx, client)
	case "cancel_after_begin":
		interop.DoCancelAfterBegin(ctx, client)
	case "cancel_after_first_response":
		interop.DoCancelAfterFirstResponse(ctx, client)
	case "custom_metadata":
		interop.DoCustomMetadata(ctx, client)
	case "status_code_and_message":
		interop.DoStatusCodeAndMessage(ctx, client)
	case "special_status_message":
		interop.DoSpecialStatusMessage(ctx, client)
	case "unimplemented_service":
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	case "unimplemented_method":
		interop.DoUnimplementedMethod(ctx, conn)
	default:
		log.Fatalf("unknown case %q", name)
	}
}

func tell(address string) {
	conn := dial(address)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := testgrpc.NewTestServiceClient(conn).EmptyCall(ctx, &testgrpc.Empty{})
	said := status.Convert(err)
	fmt.Printf("%d %s\n", said.Code(), said.Message())
}

func describe(path string) {
	set := &descriptorpb.FileDescriptorSet{}
	test := testgrpc.File_grpc_testing_test_proto
	for i := range test.Imports().Len() {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(test.Imports().Get(i).FileDescriptor))
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(test))
	bytes, err := proto.Marshal(set)
	if err == nil {
		err = os.WriteFile(path, bytes, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
