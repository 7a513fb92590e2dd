"""A receiver of webhooks that was not written with Sentinel: the published Standard Webhooks
library verifies each request, and a published model of Alertmanager's body reads it.

    python webhook.py PORT_FILE LOG_FILE WHSEC_SECRET

Writes its port to PORT_FILE, and for each request one line of JSON to LOG_FILE. The first
request to each path is refused with 429, the others are answered with 200 if they verify and
with 400 if they do not.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_alert_model import AlertGroup
from standardwebhooks import Webhook, WebhookVerificationError

PORT_FILE, LOG_FILE, SECRET = sys.argv[1:]
WEBHOOK = Webhook(SECRET)
REFUSED = set()


def look(handler, body):
    """What the libraries say of a request."""
    said = {"path": handler.path, "id": handler.headers.get("webhook-id")}
    try:
        content = WEBHOOK.verify(body, dict(handler.headers))
        said["verified"] = True
    except WebhookVerificationError as error:
        return said | {"verified": False, "error": str(error)}
    if handler.path != "/alertmanager":
        return said | {"status": content["data"]["status"]}
    group = AlertGroup(**content)
    # The model's own sum over the group: what one alert has that the others have not.
    group.update_specific_elements()
    return said | {
        "version": group.version,
        "status": group.status,
        "receiver": group.receiver,
        "group_key": group.group_key,
        "names": sorted({alert.labels["alertname"] for alert in group.alerts}),
        "ends": [alert.ends_at.year for alert in group.alerts],
        "statuses": [alert.status for alert in group.alerts],
    }


class Handler(BaseHTTPRequestHandler):
    """Takes webhooks."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            said = look(self, body)
        except Exception as error:  # Whatever a model raises is a finding of the test.
            said = {"path": self.path, "verified": False, "error": repr(error)}
        first = self.path not in REFUSED
        REFUSED.add(self.path)
        status = 429 if first else 200 if said["verified"] else 400
        with open(LOG_FILE, "a", encoding="utf-8") as log:
            log.write(json.dumps(said | {"answered": status}) + "\n")
        self.send_response(status)
        if first:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """The log says it all."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(PORT_FILE + ".part", "w", encoding="utf-8") as file:
    file.write(str(server.server_port))
os.replace(PORT_FILE + ".part", PORT_FILE)
server.serve_forever()
