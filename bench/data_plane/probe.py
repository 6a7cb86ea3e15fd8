"""One small request over a plain socket: status, or None where nobody answers."""
import socket


def status(port, host, path, timeout=5):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = b""
            while len(answer) < 12:
                more = connection.recv(4096)
                if not more:
                    return None
                answer += more
            return int(answer[9:12])
    except (OSError, ValueError):
        return None
