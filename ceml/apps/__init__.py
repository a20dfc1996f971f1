"""How applications speak to us: the wire format, the client inside their process, the pipe."""
