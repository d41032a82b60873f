// NexmarkQuery: a query of the benchmark: its name, what its rows hold, and the stream that gives them.

import MillraceStreams

/// A query. docs/reference/nexmark.md defines what each gives.
public struct NexmarkQuery: Sendable {
  /// `q0` and so on.
  public let name: String
  /// What it asks for.
  public let summary: String
  /// The names of a row's columns.
  public let columns: [String]
  /// From the events to the rows: each a value of ``results``, under a key where a later row replaces an earlier one.
  public let output: @Sendable (NexmarkEvents) -> StreamOutput

  /// The topic that the rows go to.
  public static let results = "results"

  /// All queries there are, in order.
  public static let all = [q0, q1, q2, q3, q4, q5, q7, q8, q9, q11, q17, q18, q19, q20]

  init(
    _ name: String, _ summary: String, _ columns: String, _ output: @escaping @Sendable (NexmarkEvents) -> StreamOutput
  ) {
    self.name = name
    self.summary = summary
    self.columns = columns.split(separator: " ").map(String.init)
    self.output = output
  }
}
