// ExitCode: what the program ends with, and the error that leads there.

/// What the program ends with; others script by these.
public enum ExitCode: Int32, CaseIterable, Sendable {
  /// Done, or stopped as asked.
  case done = 0
  /// It could not be done.
  case failed = 1
  /// The data directory is damaged, or another process holds it.
  case data = 4
  /// A write to the journal failed while serving. What was acknowledged is safe; start again when the disk is sound.
  case diskFailed = 5
  /// Wrong usage. Source of the number: sysexits.h, EX_USAGE.
  case usage = 64

  /// What it means, in a few words.
  public var text: String {
    switch self {
    case .done: "done, or stopped as asked"
    case .failed: "it could not be done (no server there, refused, not found); standard error says why"
    case .data: "the data directory is damaged, or a server has it open; standard error says where"
    case .diskFailed:
      "a write to the journal failed while serving; what was acknowledged is safe, standard error names the file"
    case .usage: "wrong usage; standard error says what was wrong"
    }
  }
}

/// Why a command ends early: what to say on standard error, and what to end with.
public struct CommandFailure: Error, Equatable, CustomStringConvertible {
  /// What the program ends with.
  public let exitCode: ExitCode
  /// In words, with the values.
  public let description: String

  /// A failure.
  public init(_ exitCode: ExitCode = .failed, _ description: String) {
    self.exitCode = exitCode
    self.description = description
  }
}
