// StandardStreams: standard input, output and error of a command, and Ctrl-C as something to ask for.

import CMillraceSystem
import Glibc
import MillraceBase

/// Standard input, read in whatever portions come.
public struct StandardInput: Sendable {
  /// Standard input.
  public init() {}

  /// Waits until there is something to read, or the end.
  /// - Returns: false when `timeout` is over before.
  public func waitReadable(_ timeout: Duration) throws(IOError) -> Bool {
    let wait = Int32(clamping: max(0, timeout.inMilliseconds))
    return try IOError.check(mr_poll_readable(0, wait), "wait for", "standard input") > 0
  }

  /// Reads what is there; 0 bytes are the end.
  public func read(into buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int {
    Int(try IOError.check(mr_read(0, buffer.baseAddress, buffer.count), "read", "standard input"))
  }
}

/// Standard output or standard error, written at once.
public struct OutputStream: Sendable {
  private let descriptor: Int32
  private let name: String

  /// Standard output. A reader that goes away becomes an error of the next write instead of ending the program.
  public static var standardOutput: OutputStream {
    mr_ignore_sigpipe()
    return OutputStream(descriptor: 1, name: "standard output")
  }
  /// Standard error.
  public static let standardError = OutputStream(descriptor: 2, name: "standard error")

  /// Writes all of `buffer`.
  public func write(_ buffer: UnsafeRawBufferPointer) throws(IOError) {
    var done = 0
    while done < buffer.count {
      let rest = UnsafeRawBufferPointer(rebasing: buffer[done...])
      done += Int(try IOError.check(mr_write(descriptor, rest.baseAddress, rest.count), "write", name))
    }
  }

  /// Writes a text.
  public func write(_ text: String) throws(IOError) {
    try Bytes(text).withBuffer { buffer throws(IOError) in try write(buffer) }
  }

  /// Whether nobody can read what is written any more: the reader of a pipe has gone, a terminal has hung up.
  public var isClosed: Bool {
    var state = pollfd(fd: descriptor, events: 0, revents: 0)
    return poll(&state, 1, 0) > 0 && Int32(state.revents) & (POLLERR | POLLHUP | POLLNVAL) != 0
  }

  /// Whether a person watches.
  public var isTerminal: Bool { mr_is_terminal(descriptor) != 0 }

  /// Columns of the terminal; nil when it is none.
  public var columns: Int? {
    var columns: Int32 = 0
    var rows: Int32 = 0
    return mr_terminal_size(descriptor, &columns, &rows) == 0 && columns > 0 ? Int(columns) : nil
  }
}

extension IOError {
  /// Nobody reads what was written any more.
  public var isBrokenPipe: Bool { number == EPIPE }
}

/// SIGINT and SIGTERM as something that a loop asks for between two steps.
///
/// Make it on the main thread before any other thread starts. One thread may use it at once.
public final class Interruption {
  private let descriptor: Int32
  /// Signals that came so far.
  public private(set) var count = 0

  /// Takes both signals out of their default handling.
  public init() throws(IOError) {
    descriptor = try IOError.check(mr_signal_descriptor(), "block", "signals")
  }

  deinit { mr_close(descriptor) }

  /// Whether a signal has come. A second one ends the process at once, with 130 as a shell would report it.
  public var isRequested: Bool {
    while mr_signal_read(descriptor) > 0 { count += 1 }
    if count > 1 { exit(130) }
    return count > 0
  }
}
