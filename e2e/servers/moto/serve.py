"""moto's server, one request at a time.

moto looks whether a condition is met and writes in two steps, with no lock around them, and serves from threads: of some 4,000 races of sixteen
conditional writes two went wrong. A store that has conditional writes at all does not do that, so the requests are put in a row here. Nothing else is
changed.
"""

import io
import os
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple


def in_a_row(application):
    lock = threading.Lock()

    def serve(environ, start_response):
        # A client that is slow to send must not hold up the others.
        if environ.get("CONTENT_LENGTH"):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        elif environ.get("wsgi.input_terminated"):
            body = environ["wsgi.input"].read()
        else:
            body = b""
        environ["wsgi.input"] = io.BytesIO(body)
        with lock:
            return [b"".join(application(environ, start_response))]

    return serve


host, port = sys.argv[1:]
# moto builds URLs of its own from it.
os.environ["MOTO_PORT"] = port
run_simple(host, int(port), in_a_row(DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=MotoRequestHandler)
