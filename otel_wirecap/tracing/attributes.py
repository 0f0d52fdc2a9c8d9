"""Names of span attributes: the stable HTTP conventions, the GenAI ones, and our own ``wirecap.*``.

The GenAI constants of the semantic-conventions package are marked deprecated (they moved to a repository of their
own), so the strings stand here.
"""

HTTP_REQUEST_METHOD = "http.request.method"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id"

WIRECAP_REQUEST_ID = "wirecap.request_id"
WIRECAP_EXCHANGE_ID = "wirecap.exchange_id"
WIRECAP_LEG = "wirecap.leg"
WIRECAP_ATTEMPT = "wirecap.attempt"
WIRECAP_OUTCOME = "wirecap.outcome"

EVENT_RECORD = "wirecap.record"
"""Of a payload event: the record as one JSON object, redacted, as the schema has it."""
EVENT_PROCESS = "wirecap.process"
"""Of a payload event: the process whose capture holds the record already."""

CAPTURE_FILE = "wirecap.capture_file"
REASON = "reason"

METRIC_RECORDS = "wirecap.capture.records"
METRIC_BYTES = "wirecap.capture.bytes"
METRIC_LOST_EVENTS = "wirecap.capture.lost_events"
METRIC_QUEUE_EVENTS = "wirecap.capture.queue.events"
METRIC_QUEUE_BYTES = "wirecap.capture.queue.bytes"
METRIC_OPEN_EXCHANGES = "wirecap.capture.open_exchanges"
METRIC_WRITE_ERRORS = "wirecap.capture.write_errors"
METRIC_WRITE_DURATION = "wirecap.capture.write_duration"
