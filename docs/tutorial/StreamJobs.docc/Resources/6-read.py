"""Prints the newest count of each page and minute, until nothing has come for two seconds."""

import json

from kafka import KafkaConsumer

views = {}
for record in KafkaConsumer(
    "minutes", bootstrap_servers="localhost:9092", auto_offset_reset="earliest", consumer_timeout_ms=2000
):
    result = json.loads(record.value)
    # A minute that a late click changed comes again: the last one counts.
    views[result["minute"], result["page"]] = result["views"]
for (minute, page), count in sorted(views.items()):
    print(minute, page, count)
