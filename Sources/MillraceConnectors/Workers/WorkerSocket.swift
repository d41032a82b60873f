// WorkerSocket: a client's end of the socket of workers: requests out, answers in, with a bound on every wait.

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceIO
import Synchronization

/// A connection to the server of a data directory.
///
/// One thread receives; others may send meanwhile.
///
/// Safety: `@unchecked Sendable` because `input` belongs to the receiving thread, and sending holds `sending`.
final class WorkerSocket: @unchecked Sendable {
  private let socket: BlockingSocket
  private var input = InputBuffer(limit: WorkerProtocol.largestAnswer)
  private let sending = Mutex<UInt32>(0)
  /// Most bytes that the server takes as one commit.
  private(set) var largestCommit = 0

  /// How long the server may take to let a request in, or to answer one that needs nothing but itself.
  static let patience = Duration.seconds(60)

  /// Connects and greets.
  /// - Throws: `.noServer` when none listens there, `.invalidJob` when it speaks another version, `.closed`.
  init(directory: String) throws(JobError) {
    do throws(IOError) {
      socket = try BlockingSocket(
        connectingTo: WorkerProtocol.address(directory: directory), timeout: WorkerSocket.patience)
    } catch {
      throw JobError(
        .noServer,
        "no server runs on \(directory) (\(error)); `millrace serve --data \(directory)` starts one")
    }
    let frame = try ask(.hello(version: WorkerProtocol.version, processID: UInt32(clamping: getpid())))
    guard case .hello(let version, let largest) = frame.answer else { throw WorkerSocket.unexpected(frame.answer) }
    guard version == WorkerProtocol.version else {
      throw JobError(
        .invalidJob,
        "the server speaks version \(version) of the workers' protocol, and this program \(WorkerProtocol.version)")
    }
    largestCommit = Int(clamping: largest)
  }

  static func unexpected(_ answer: WorkerAnswer) -> JobError {
    if case .refused(let error) = answer { return error }
    return JobError(.closed, "the server's answer makes no sense")
  }

  /// Sends a request.
  /// - Returns: its number.
  /// - Throws: `.closed` when the connection is gone, or the server took nothing for a minute.
  func send(_ request: WorkerRequest) throws(JobError) -> UInt32 {
    try sending.withLock { number throws(JobError) in
      number &+= 1
      try send(request, number)
      return number
    }
  }

  /// Sends a request that nobody waits for, unless another one is being sent.
  func sendIfQuiet(_ request: WorkerRequest) {
    _ = sending.withLockIfAvailable { number in
      number &+= 1
      // Whoever waits for an answer hears that the connection is gone.
      do throws(JobError) { try send(request, number) } catch {}
    }
  }

  private func send(_ request: WorkerRequest, _ number: UInt32) throws(JobError) {
    do throws(IOError) {
      try socket.send(WorkerProtocol.frame(number) { request.encode(to: &$0) })
    } catch {
      throw WorkerSocket.lost(error)
    }
  }

  private static func lost(_ error: IOError) -> JobError {
    JobError(.closed, "the connection to the server is gone: \(error.description)")
  }

  /// The next answer; nil when `deadline` has passed. Without a deadline the server may take as long as it likes.
  /// - Throws: `.closed`.
  func receive(until deadline: MonotonicTime?) throws(JobError) -> WorkerFrame? {
    while true {
      if let frame = try take() { return frame }
      do throws(IOError) {
        let left = deadline.map { max(.zero, $0 - .now) } ?? .seconds(3600)
        guard try socket.waitReadable(left) else {
          if let deadline, MonotonicTime.now >= deadline { return nil }
          continue
        }
        let room = input.prepareRoom()
        guard room.count > 0 else {
          throw IOError(.failed, operation: "receive", subject: "an answer", reason: "too large")
        }
        let got = try socket.receive(into: room)
        guard got > 0 else {
          throw IOError(.failed, operation: "receive from", subject: socket.peer.description, reason: "it has closed")
        }
        input.received(got)
        if got == room.count { input.grow() }
      } catch {
        throw WorkerSocket.lost(error)
      }
    }
  }

  private func take() throws(JobError) -> WorkerFrame? {
    guard let size = input.peekInt32() else { return nil }
    guard size > 0, Int(size) <= WorkerProtocol.largestAnswer - 4 else {
      throw JobError(.closed, "the server announces an answer of \(size) bytes")
    }
    guard input.count >= Int(size) + 4 else {
      input.expect(Int(size) + 4)
      return nil
    }
    _ = input.take(4)
    do throws(DecodingError) {
      return try WorkerFrame(input.take(Int(size)))
    } catch {
      throw JobError(.closed, "the server's answer cannot be read: \(error)")
    }
  }

  /// Sends a request and waits for its answer; for a client that does one thing at a time.
  /// - Throws: what the server refuses with, and `.closed`.
  func ask(_ request: WorkerRequest, patience: Duration = WorkerSocket.patience) throws(JobError) -> WorkerFrame {
    let number = try send(request)
    let deadline = MonotonicTime.now + patience
    while let frame = try receive(until: deadline) {
      guard frame.number == number else { continue }
      if case .refused(let error) = frame.answer { throw error }
      return frame
    }
    throw JobError(.closed, "the server did not answer within \(patience)")
  }
}
