// DemoView: what the demo shows: a live table on a terminal, a plain line now and then elsewhere.

import MillraceBase
import MillraceDataflow

/// Writes the demo's progress to standard output.
final class DemoView {
  /// What is shown.
  struct Figures {
    var feeder: JobFigures
    var counter: JobFigures
    var isFeeding: Bool
    var commit: Histogram
    var top: [(String, UInt64)]
  }

  private let isTerminal: Bool
  private var shown = 0
  private var last: (figures: Figures, at: MonotonicTime)?
  private var lastLine = MonotonicTime(nanoseconds: 0)
  private var commitBefore = Histogram()
  private static let lineInterval = Duration.seconds(5)

  init(isTerminal: Bool) {
    self.isTerminal = isTerminal
  }

  /// Writes a text above the table.
  func say(_ text: String) {
    clear()
    ServerProcess.print(text + "\n")
  }

  /// Leaves the table standing.
  func end() { shown = 0 }

  private func clear() {
    guard shown > 0 else { return }
    ServerProcess.print("\u{1b}[\(shown)A\u{1b}[J")
    shown = 0
  }

  /// Shows the newest figures; rates are those since the last call.
  func show(_ figures: Figures, now: MonotonicTime) {
    let seconds = last.map { max(0.001, Double((now - $0.at).inNanoseconds) / 1e9) } ?? 1
    let before = last?.figures
    func rate(_ value: KeyPath<Figures, UInt64>) -> String {
      let old = before?[keyPath: value] ?? 0
      let new = figures[keyPath: value]
      return DemoView.grouped(UInt64(Double(new >= old ? new - old : 0) / seconds))
    }
    let commit =
      "commit p50 \(DemoView.milliseconds(figures.commit.value(at: 0.5))) ms, "
      + "p99 \(DemoView.milliseconds(figures.commit.value(at: 0.99))) ms"
    let flow =
      "in \(rate(\.feeder.recordsOut)) lines/s, out \(rate(\.counter.recordsOut)) counts/s, "
      + "lag \(DemoView.grouped(UInt64(max(0, figures.counter.lag)))), \(commit)"
    last = (figures, now)
    if isTerminal {
      clear()
      var rows = ["", flow, "\(DemoView.grouped(UInt64(figures.counter.stateKeys))) words, of them the most frequent:"]
      for (word, count) in figures.top {
        let number = DemoView.grouped(count)
        rows.append(String(repeating: " ", count: max(0, 14 - number.count)) + number + "  " + DemoView.safe(word))
      }
      ServerProcess.print(rows.joined(separator: "\n") + "\n")
      shown = rows.count
    } else if now - lastLine >= DemoView.lineInterval {
      lastLine = now
      let top = figures.top.prefix(3).map { "\(DemoView.safe($0.0)) \($0.1)" }.joined(separator: ", ")
      ServerProcess.print("\(flow); top: \(top)\n")
    }
  }

  /// Digits in groups of three.
  static func grouped(_ value: UInt64) -> String {
    var out = ""
    let digits = String(value)
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { out.append(",") }
      out.append(digit)
    }
    return out
  }

  static func milliseconds(_ nanoseconds: UInt64) -> String {
    let hundredths = (nanoseconds + 5000) / 10_000
    let rest = hundredths % 100
    return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
  }

  /// A word as it may stand on a terminal: no control characters, and not longer than a column.
  private static func safe(_ word: String) -> String {
    String(word.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }.prefix(40).map(Character.init))
  }
}
