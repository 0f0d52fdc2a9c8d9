"""From captures to answers: reading records, and the flows that they tell of."""

from otel_wirecap.dialect_plugins import use_plugins

use_plugins()
