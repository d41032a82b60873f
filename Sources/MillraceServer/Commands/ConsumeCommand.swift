// ConsumeCommand: `millrace consume`: records to standard output, alone or as a member of a group.

import MillraceBase
import MillraceIO
import MillraceModel

extension Command {
  /// `millrace consume`
  static let consume = Command(
    "consume", "writes records to standard output",
    discussion: """
      The value of each record is written as a line; it goes on until Ctrl-C, --max or --timeout, or until nobody reads \
      its output any more. In a group it commits what was written once a second and at its end, and leaves the group.
      With --json each line is an object with topic, partition, offset, timestamp (ms since 1970), key, value and \
      headers; bytes that are not UTF-8 stand as base 64 under key_base64 or value_base64.
      """,
    operands: [Operand("TOPIC", "The topic.")],
    options: [
      CommandOption("--group", "G", "The consumer group; without it nothing is committed."),
      CommandOption(
        "--from", "POSITION", type: .position,
        "earliest, latest or an offset: where to begin (default latest); in a group, where nothing is committed yet."),
      CommandOption(
        "--isolation", "LEVEL", type: .word(["read_committed", "read_uncommitted"]),
        "read_committed (default) leaves out what transactions have not committed; read_uncommitted shows everything."),
      CommandOption("--partition", "N", type: .integer(0...Int64(Int32.max)), "Only this partition; not in a group."),
      CommandOption("--max", "N", type: .integer(0...Int64.max), "Ends after N records."),
      CommandOption("--timeout", "SECONDS", type: .seconds, "Ends when no record came for so long."),
      CommandOption(flag: "--json", "Writes whole records as JSON."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    if arguments.has("--group"), arguments.has("--partition") {
      throw CommandFailure(.usage, "--partition has no meaning with --group: the group shares the partitions out")
    }
    let interruption = try Interruption.begin()
    let run = ConsumeRun(arguments, try arguments.client(interruption), interruption)
    try CommandFailure.wrapping { () throws(ClientError) in try run.start() }
    try run.loop()
    try CommandFailure.wrapping { () throws(ClientError) in try run.finish() }
    return .done
  }
}
