// Reads requests as Go's net/http does and writes one line for each that it has read to its end: METHOD TARGET BODY-BYTES.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bytes, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // cut off: it was never read to its end
		}
		line := fmt.Sprintf("%s %s %d", r.Method, r.RequestURI, bytes)
		fmt.Println(line)
		_, _ = io.WriteString(w, line)
	})))
}
