// ConfigurationProblem: something that is wrong, or odd, with what a server is started with.

import MillraceBase

/// One thing that is wrong, with the place where it stands.
struct ConfigurationProblem: Equatable, Sendable, CustomStringConvertible {
  /// `millrace.conf:12`, a variable or an option; empty when it stands nowhere, such as what is missing.
  var place: String
  /// What is wrong, with the values.
  var text: String
  /// A server starts all the same.
  var isWarning = false

  /// Without what the values would do to a terminal.
  var description: String { LogRedaction.printable(place.isEmpty ? text : "\(place): \(text)") }

  /// As compilers write it, for editors to jump to.
  var line: String {
    let weight = isWarning ? "warning" : "error"
    return LogRedaction.printable(place.isEmpty ? "\(weight): \(text)" : "\(place): \(weight): \(text)")
  }
}
