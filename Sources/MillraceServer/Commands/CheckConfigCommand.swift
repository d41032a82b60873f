// CheckConfigCommand: `millrace check-config`: all that is wrong with a configuration, without a server.

import MillraceBase
import MillraceBroker
import MillraceIO

extension Command {
  /// `millrace check-config`
  static let checkConfig = Command(
    "check-config", "looks for all that is wrong with a configuration, without starting a server",
    discussion: """
      Takes the options of `serve`, and looks at what they, the environment and the configuration file say: names, values, \
      what does not go together, whether listeners are safe, files of TLS, the data directory. Every problem is a line on standard \
      error, `PLACE: error: …` or `PLACE: warning: …`, where the place is FILE:LINE, a variable or an option. It ends with 0 when a server \
      would start, and with 1 when it would not. It changes nothing, and may be used while a server runs.
      """,
    options: [
      CommandOption(
        flag: "--print",
        "Writes all settings as a configuration file, with where each value comes from; secrets are left out.")
    ] + serveOptions
  ) { (arguments) throws(CommandFailure) in
    let (configuration, found) = ServerConfiguration.gather(arguments, readsFile: true)
    let problems = found + ConfigurationCheck(configuration).problems
    if arguments.has("--print") {
      try OutputStream.standardOutput.print(ConfigurationText.file(configuration.settings))
    }
    let lines = problems.map { $0.line + "\n" }.joined()
    do throws(IOError) {
      try OutputStream.standardError.write(lines)
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    let errors = problems.filter { !$0.isWarning }.count
    guard errors == 0 else { return .failed }
    if !arguments.has("--print") {
      let count = problems.count
      try OutputStream.standardOutput.print(
        count == 0 ? "the configuration is sound\n" : "a server would start; \(count) warning\(count == 1 ? "" : "s")\n"
      )
    }
    return .done
  }
}

/// Settings as a configuration file.
enum ConfigurationText {
  /// All settings: first those that were given, each below a comment with its place, then the others, commented out, with their
  /// standard values. A file that holds the text gives the same settings, save for secrets, which are commented out as well.
  static func file(_ settings: BrokerSettings) -> String {
    var given = ""
    var standard = ""
    for setting in BrokerSettings.table {
      guard let value = settings.values(of: setting.name).first else { continue }
      if value.source == .standard { standard += line(setting, value) } else { given += line(setting, value) }
    }
    return given + (given.isEmpty ? "" : "\n") + "# Standard values\n" + standard
  }

  static func line(_ setting: Setting, _ value: BrokerSettings.Given) -> String {
    if value.source == .standard { return "#\(setting.name)=\(setting.shown(value.value))\n" }
    return "# \(value.place.isEmpty ? value.source.name : value.place)\n"
      + (setting.isSecret ? "#" : "") + "\(setting.name)=\(setting.shown(value.value))\n"
  }
}
