// CommonOptions: options that several commands share, and what they stand for.

import MillraceBase
import MillraceIO

extension CommandOption {
  /// Where the server is.
  static let bootstrap = CommandOption(
    "--bootstrap", "HOST:PORT", type: .address, "The server to talk to (default localhost:9092).")
}

extension Arguments {
  /// A client of the server that `--bootstrap` names.
  func client(
    _ interruption: Interruption? = nil, timeout: Duration = .seconds(10)
  ) throws(CommandFailure) -> KafkaClient {
    let address = text("--bootstrap").flatMap { ServerAddress($0) } ?? .standard
    return KafkaClient(
      address, security: try clientSecurity(address), timeout: timeout, interruption: interruption)
  }
}

extension Interruption {
  /// Takes SIGINT and SIGTERM out of their default handling.
  static func begin() throws(CommandFailure) -> Interruption {
    do throws(IOError) {
      return try Interruption()
    } catch {
      throw CommandFailure(.failed, error.description)
    }
  }
}

/// Says how far a long work is, on a terminal; elsewhere it says nothing.
struct Progress {
  private let isShown = OutputStream.standardError.isTerminal
  private var next = MonotonicTime.now + .milliseconds(300)
  private var width = 0

  /// Shows `text` in place of the last one, at most five times a second.
  mutating func show(_ text: @autoclosure () -> String) {
    guard isShown, MonotonicTime.now >= next else { return }
    next = .now + .milliseconds(200)
    let text = text()
    write("\r" + text + String(repeating: " ", count: max(0, width - text.count)))
    width = text.count
  }

  /// Takes the last text away.
  mutating func clear() {
    guard width > 0 else { return }
    write("\r" + String(repeating: " ", count: width) + "\r")
    width = 0
  }

  private func write(_ text: String) {
    // A terminal that has gone away has nobody to tell.
    do throws(IOError) { try OutputStream.standardError.write(text) } catch {}
  }
}

/// Numbers for people.
enum Shown {
  /// A whole number with commas between thousands.
  static func count(_ value: some BinaryInteger) -> String {
    let digits = String(value.magnitude)
    var out = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { out.append(",") }
      out.append(digit)
    }
    return value < 0 ? "-" + out : out
  }

  /// One decimal.
  static func decimal(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
    let tenths = Int64((value * 10).rounded())
    return (tenths < 0 ? "-" : "") + "\(abs(tenths) / 10).\(abs(tenths) % 10)"
  }

  /// Bytes in the largest unit that leaves a number of at least 1.
  static func bytes(_ value: Double) -> String {
    var rest = value
    for unit in ["B", "KiB", "MiB", "GiB"] {
      if abs(rest) < 1024 { return unit == "B" ? "\(Int64(rest)) B" : "\(decimal(rest)) \(unit)" }
      rest /= 1024
    }
    return "\(decimal(rest)) TiB"
  }

  /// Microseconds, in ms from 1,000 on.
  static func microseconds(_ value: Double) -> String {
    value < 1000 ? "\(Int64(value)) µs" : "\(decimal(value / 1000)) ms"
  }

  /// Columns with two blanks between them: the first one to the left, the others to the right.
  static func table(_ rows: [[String]]) -> String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      let cells = row.enumerated().map { column, cell in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return column == 0 ? cell + space : space + cell
      }
      let line = cells.joined(separator: "  ")
      return line.prefix(line.count - line.reversed().prefix { $0 == " " }.count) + "\n"
    }.joined()
  }
}
