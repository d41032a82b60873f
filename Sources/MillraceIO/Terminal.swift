// Terminal: the screen that a command draws on: its size, keys as they are pressed, and everything put back at the end.

import CMillraceSystem
import Glibc
import MillraceBase
import Synchronization

/// The terminal of standard output, taken over until ``end()``, or until the process exits in an orderly way.
///
/// What is drawn goes to the alternate screen, so that what stood there before is there again afterwards. Ctrl-C still is
/// a signal. One at a time.
public final class Terminal {
  /// Columns and rows.
  public struct Size: Equatable, Sendable {
    /// Characters in a line.
    public var columns: Int
    /// Lines.
    public var rows: Int

    /// A size.
    public init(columns: Int, rows: Int) {
      self.columns = columns
      self.rows = rows
    }
  }

  /// What has to be put back, while a terminal is taken over: the settings of standard input, if that is one.
  private static let taken = Mutex<(isTaken: Bool, input: termios?)>((false, nil))
  private let input = StandardInput()
  private var hasKeys: Bool

  /// The size of standard output; nil when that is no terminal, or one that does not say.
  public static var size: Size? {
    var columns: Int32 = 0
    var rows: Int32 = 0
    guard mr_terminal_size(1, &columns, &rows) == 0, columns > 0, rows > 0 else { return nil }
    return Size(columns: Int(columns), rows: Int(rows))
  }

  /// Takes the terminal over; nil when standard output is none.
  public init?() {
    guard OutputStream.standardOutput.isTerminal else { return nil }
    var settings = termios()
    hasKeys = mr_is_terminal(0) != 0 && tcgetattr(0, &settings) == 0
    let saved = hasKeys ? settings : nil
    Terminal.taken.withLock { $0 = (true, saved) }
    // However the program ends from here on, a second Ctrl-C included.
    atexit { Terminal.putBack() }
    if hasKeys {
      // Keys come one by one and are not shown.
      settings.c_lflag &= ~tcflag_t(ICANON | ECHO)
      tcsetattr(0, TCSANOW, &settings)
    }
    // Source of the sequences: xterm, "XTerm Control Sequences": alternate screen, cursor.
    Terminal.write("\u{1b}[?1049h\u{1b}[?25l")
  }

  /// Shows these lines and nothing else. They must not be longer, nor more, than the terminal has room for.
  public func draw(_ lines: [String]) throws(IOError) {
    let text = "\u{1b}[H" + lines.joined(separator: "\u{1b}[K\r\n") + "\u{1b}[K\u{1b}[J"
    try OutputStream.standardOutput.write(text)
  }

  /// Waits for a key, at most for a time.
  /// - Returns: the first byte that it sends; nil when none was pressed. With a terminal that has gone away, `q`.
  public func key(within time: Duration) -> UInt8? {
    guard hasKeys else {
      SystemClock.sleep(time)
      return nil
    }
    let keys = Chunk(capacity: 64)
    do throws(IOError) {
      guard try input.waitReadable(time) else { return nil }
      let count = try input.read(into: UnsafeMutableRawBufferPointer(start: keys.base, count: keys.capacity))
      return count > 0 ? keys.bytes(0..<1)[0] : UInt8(ascii: "q")
    } catch {
      return UInt8(ascii: "q")
    }
  }

  /// Gives the terminal back as it was.
  public func end() { Terminal.putBack() }

  private static func putBack() {
    let state = taken.withLock { state in
      defer { state = (false, nil) }
      return state
    }
    guard state.isTaken else { return }
    write("\u{1b}[?25h\u{1b}[?1049l")
    if var settings = state.input { tcsetattr(0, TCSANOW, &settings) }
  }

  private static func write(_ text: String) {
    // Of a terminal that has gone away nothing has to be put back.
    do throws(IOError) { try OutputStream.standardOutput.write(text) } catch {}
  }
}
