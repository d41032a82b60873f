// DoctorCommand: `millrace doctor`: what of this machine would trouble a server, with advice.

import MillraceBase
import MillraceIO

extension Command {
  /// `millrace doctor`
  static let doctor = Command(
    "doctor", "looks at this machine as a server on it would find it, and gives advice",
    discussion: """
      Takes the options of `serve`. Looks at the disk of the data directory, where it writes and flushes a small file, at space, clock, \
      ports, open files, memory, processors and io_uring. Each finding is a line that begins with ok, note, warning or \
      danger, which means that acknowledged data may get lost. It ends with 1 when there is a danger, else with 0. It may be used while a \
      server runs on the directory.
      """,
    options: [CommandOption(flag: "--json", "Writes the findings as JSON, one line.")] + serveOptions
  ) { (arguments) throws(CommandFailure) in
    let (configuration, problems) = ServerConfiguration.gather(arguments, readsFile: true)
    let doctor = Doctor(configuration, problems + ConfigurationCheck(configuration).problems)
    try OutputStream.standardOutput.print(
      arguments.has("--json") ? FindingsText.json(doctor.findings) : FindingsText.list(doctor.findings))
    return doctor.findings.contains { $0.result == .danger } ? .failed : .done
  }
}
