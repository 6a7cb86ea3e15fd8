// Reads requests as Node does and writes one line for each that it has read to its end: METHOD TARGET BODY-BYTES.
const http = require('http');
const server = http.createServer((request, response) => {
  let bytes = 0;
  request.on('data', (chunk) => { bytes += chunk.length; });
  request.on('end', () => {
    process.stdout.write(`${request.method} ${request.url} ${bytes}\n`);
    response.end(`${request.method} ${request.url} ${bytes}`);
  });
});
server.keepAliveTimeout = 600000;
server.listen(0, '127.0.0.1', () => process.stdout.write(`listening ${server.address().port}\n`));
