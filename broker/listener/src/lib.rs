//! Sockets in: tcp, tls, websocket, unix, PROXY protocol.
