"""Runs one query in Flink's mini cluster, inside one Java process; prints a line of JSON. For flink.py.

    run_query.py QUERY INPUT PARALLELISM [--rows FILE]

INPUT is a directory of files with lines of JSON. Results go to the blackhole sink; with --rows they are written to FILE instead, as
what is there at the end, one list of JSON a line.
"""

import datetime
import json
import sys
from collections import Counter
from pathlib import Path

from pyflink.common import Configuration
from pyflink.common.types import RowKind
from pyflink.java_gateway import get_gateway
from pyflink.table import EnvironmentSettings, TableEnvironment

HERE = Path(__file__).resolve().parent
# What makes Flink fast here: no copies between operators, mini-batches; state is in memory, and there are no checkpoints.
SETTINGS = {
    "pipeline.object-reuse": "true",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "50000",
    "table.optimizer.distinct-agg.split.enabled": "true",
    "table.local-time-zone": "UTC",
}


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main():
    query, directory, parallelism = sys.argv[1:4]
    rows = sys.argv[5] if sys.argv[4:5] == ["--rows"] else None
    configuration = Configuration()
    for name, value in SETTINGS.items():
        configuration.set_string(name, value)
    configuration.set_string("parallelism.default", parallelism)
    configuration.set_string("taskmanager.numberOfTaskSlots", parallelism)
    environment = TableEnvironment.create(
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build())
    machine = get_gateway().jvm.java
    process = machine.lang.ProcessHandle.current().pid()
    for statement in (HERE / "tables.sql").read_text().replace("{input}", f"file://{directory}").split(";"):
        if statement.strip():
            environment.execute_sql(statement)
    text = (HERE / f"{query}.sql").read_text()
    before = cpu_seconds(process)
    if rows is None:
        result = environment.execute_sql(f"CREATE TABLE results WITH ('connector' = 'blackhole') AS {text}")
        result.wait()
        elapsed = result.get_job_client().get_job_execution_result().result().get_net_runtime() / 1000
    else:
        write_rows(environment.sql_query(text), rows)
        elapsed = 0
    used = cpu_seconds(process)
    print(json.dumps({"cpu": used, "start": before, "elapsed": elapsed,
                      "java": machine.lang.System.getProperty("java.vm.version"),
                      "heap": machine.lang.Runtime.getRuntime().maxMemory()}))


def shown(value):
    """A value as text: times, which are those of UTC, in milliseconds since the epoch."""
    if isinstance(value, datetime.datetime):
        value = round(value.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)
    return str(value)


def write_rows(table, path):
    there = Counter()
    with table.execute().collect() as found:
        for row in found:
            comes = row.get_row_kind() in (RowKind.INSERT, RowKind.UPDATE_AFTER)
            there[json.dumps([shown(value) for value in row])] += 1 if comes else -1
    Path(path).write_text("".join(line + "\n" for line in sorted(there.elements())))


main()
