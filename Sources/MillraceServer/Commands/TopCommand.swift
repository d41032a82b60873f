// TopCommand: `millrace top`: queues and groups of a running server, live on a terminal or as text.

import MillraceBase
import MillraceIO

extension Command {
  /// `millrace top`
  static let top = Command(
    "top", "shows queues and consumer groups live",
    discussion: """
      Of each queue: messages that wait (length) and that are with consumers (unacked), the age of the oldest one, \
      arrivals and settled deliveries per second over the last ten seconds, the share of time that consumers are busy, \
      mean times of a message until the queue had it (transfer), until it was delivered (wait, and p99 of that) and until \
      it was settled (process). L and λW are the two sides of Little's law: holds, or ends differ when the queue grew or \
      shrank. The model's wait is what M/M/c, corrected by the measured variability, expects, or how fast the queue grows \
      where it expects no end; need is how many consumers it takes for a mean wait of --target. docs/guides/queueing.md \
      explains them.
      Of each group and topic: the records that it has not committed (lag), and records per second in and out.
      The screen is drawn anew every --interval until q or Ctrl-C; columns that do not fit are left out. A server that is \
      away is tried again. Where standard output is no terminal, plain text is written each time.
      """,
    options: [
      CommandOption("--interval", "SECONDS", type: .seconds, "Time between two screens (default 1)."),
      CommandOption(flag: "--once", "Writes one screen as plain text and ends."),
      CommandOption(
        "--sort", "COLUMN", type: .word(TopOrder.allCases.map(\.rawValue)),
        "What queues are sorted by: length (default), unacked, oldest, arrivals, busy, wait or name."),
      CommandOption("--target", "SECONDS", type: .seconds, "The mean wait that need is computed for (default 0.1)."),
      .bootstrap,
    ]
  ) { (arguments) throws(CommandFailure) in
    try TopRun(arguments, try Interruption.begin()).go()
    return .done
  }
}

/// One run of `millrace top`.
private final class TopRun {
  private let interruption: Interruption
  private let client: KafkaClient
  private let interval: Duration
  private let isOnce: Bool
  private let view: TopView
  private let output = OutputStream.standardOutput
  private var terminal: Terminal?
  private var figures: JSONValue?
  private var problem: String?

  init(_ arguments: Arguments, _ interruption: Interruption) throws(CommandFailure) {
    self.interruption = interruption
    // Shorter than for other commands: keys are not heard while it waits.
    client = try arguments.client(interruption, timeout: .seconds(3))
    interval = arguments.seconds("--interval") ?? .seconds(1)
    isOnce = arguments.has("--once")
    view = TopView(
      server: "\(client.address)", order: arguments.text("--sort").flatMap { TopOrder(rawValue: $0) } ?? .length,
      target: arguments.seconds("--target").map { Double($0.inNanoseconds) / 1e9 } ?? 0.1)
  }

  func go() throws(CommandFailure) {
    if !isOnce { terminal = Terminal() }
    defer { terminal?.end() }
    var next = MonotonicTime.now
    while !interruption.isRequested {
      do throws(ClientError) {
        try ask()
        problem = nil
      } catch {
        if error.code == .interrupted { return }
        // What answers, but is not understood, will not be in a second either.
        if isOnce || error.code == .malformed { throw CommandFailure(error) }
        problem = error.description
      }
      guard try show(), !isOnce else { return }
      next = max(next + interval, .now)
      guard try wait(until: next) else { return }
    }
  }

  private func ask() throws(ClientError) {
    let text = try client.figures()
    do throws(DecodingError) {
      figures = try JSONValue(text)
    } catch {
      throw ClientError(.malformed, "the server's figures cannot be read: \(error)")
    }
  }

  /// - Returns: false when nobody sees it any more.
  private func show() throws(CommandFailure) -> Bool {
    do throws(IOError) {
      if let terminal {
        let size = Terminal.size ?? Terminal.Size(columns: 80, rows: 24)
        try terminal.draw(view.lines(figures, problem: problem, size: size))
      } else {
        let lines = view.lines(figures, problem: problem, columns: isOnce ? output.columns : nil)
        try output.write(lines.joined(separator: "\n") + "\n" + (isOnce ? "" : "\n"))
      }
    } catch {
      if error.isBrokenPipe { return false }
      throw CommandFailure(.failed, error.description)
    }
    return true
  }

  /// - Returns: false when it is to end.
  private func wait(until next: MonotonicTime) throws(CommandFailure) -> Bool {
    var size = Terminal.size
    while MonotonicTime.now < next, !interruption.isRequested {
      let slice = min(.milliseconds(50), next - .now)
      guard let terminal else {
        if output.isClosed { return false }
        SystemClock.sleep(slice)
        continue
      }
      if let key = terminal.key(within: slice), key == UInt8(ascii: "q") || key == UInt8(ascii: "Q") { return false }
      if Terminal.size != size {
        size = Terminal.size
        guard try show() else { return false }
      }
    }
    return !interruption.isRequested
  }
}
