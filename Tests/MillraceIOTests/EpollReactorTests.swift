// EpollReactorTests: the order of jobs, timers and ends of turns, across threads.

import CMillraceSystem
import Dispatch
import Foundation
import MillraceBase
import Synchronization
import Testing

@testable import MillraceIO

@Test("jobs submitted by one thread run in order, and none is lost when many threads submit")
func jobsKeepTheirOrder() throws {
  let threads = 4
  let perThread = 20_000
  let seen = Mutex([[Int]](repeating: [], count: threads))
  try withReactor { reactor in
    DispatchQueue.concurrentPerform(iterations: threads) { thread in
      for index in 0..<perThread {
        reactor.submit { seen.withLock { $0[thread].append(index) } }
      }
    }
    reactor.call {}
  }
  for list in seen.withLock({ $0 }) { #expect(list == Array(0..<perThread)) }
}

@Test("a job wakes a sleeping reactor")
func jobWakesSleeper() throws {
  try withReactor { reactor in
    for _ in 0..<50 {
      usleep(1000)
      let started = MonotonicTime.now
      #expect(reactor.call { reactor.isCurrent })
      #expect(MonotonicTime.now - started < .milliseconds(500))
    }
    #expect(!reactor.isCurrent)
  }
}

@Test("timers fire in the order of their deadlines, never early, and equal ones in the order they were made")
func timersFireInOrder() throws {
  let fired = Mutex<[Int]>([])
  let early = Mutex(0)
  let ledger = Ledger()
  try withReactor { reactor in
    reactor.submit {
      for (index, delay) in [30, 10, 20, 10, 0, 20].enumerated() {
        let timer = reactor.schedule(after: .milliseconds(delay)) {
          fired.withLock { $0.append(index) }
          ledger.add("fired")
        }
        let due = timer.deadline
        reactor.schedule(after: .milliseconds(delay)) {
          if MonotonicTime.now < due { early.withLock { $0 += 1 } }
        }
      }
    }
    ledger.wait("fired", atLeast: 6)
  }
  #expect(fired.withLock { $0 } == [4, 1, 3, 2, 5, 0])
  #expect(early.withLock { $0 } == 0)
}

@Test("a cancelled timer does not fire, and cancelled timers do not pile up")
func cancelledTimersAreDropped() throws {
  let ledger = Ledger()
  try withReactor { reactor in
    reactor.submit {
      reactor.schedule(after: .milliseconds(5)) { ledger.add("cancelled") }.cancel()
      reactor.schedule(after: .milliseconds(20)) { ledger.add("kept") }
    }
    ledger.wait("kept", atLeast: 1)
  }
  #expect(ledger["cancelled"] == 0)

  var heap = TimerHeap()
  for _ in 0..<100_000 {
    let timer = MillraceIO.Timer(deadline: MonotonicTime(nanoseconds: .max)) {}
    heap.add(timer)
    timer.cancel()
  }
  #expect(heap.count <= 128)
}

@Test("oracle: the timer heap yields what sorting yields, with random cancellations")
func oracleTimerHeap() {
  for seed in UInt64(0)..<50 {
    var random = SeededRandom(seed: seed)
    var heap = TimerHeap()
    var expected: [(Int64, Int)] = []
    var yielded: [Int] = []
    for index in 0..<500 {
      let deadline = Int64.random(in: 0..<100, using: &random)
      let timer = MillraceIO.Timer(deadline: MonotonicTime(nanoseconds: deadline)) { yielded.append(index) }
      heap.add(timer)
      if random.oneIn(2) { timer.cancel() } else { expected.append((deadline, index)) }
    }
    let mark = heap.mark
    while let timer = heap.takeDue(at: MonotonicTime(nanoseconds: 100), addedBefore: mark) { timer.fire() }
    #expect(yielded == expected.sorted { $0 < $1 }.map(\.1), "seed \(seed)")
  }
}

@Test("end-of-turn jobs run after the jobs of their turn, and one that registers again runs in the next turn")
func endOfTurnComesLast() throws {
  let order = Mutex<[String]>([])
  let ledger = Ledger()
  try withReactor { reactor in
    reactor.submit {
      reactor.atEndOfTurn {
        order.withLock { $0.append("end") }
        reactor.atEndOfTurn {
          order.withLock { $0.append("next end") }
          ledger.add("done")
        }
        reactor.submit { order.withLock { $0.append("next job") } }
      }
      order.withLock { $0.append("job") }
    }
    ledger.wait("done", atLeast: 1)
  }
  #expect(order.withLock { $0 } == ["job", "end", "next job", "next end"])
}

@Test("stopping runs what was submitted before, closes connections with word to their handlers, and drops later jobs")
func stopIsGraceful() throws {
  let ledger = Ledger()
  let reactor = try EpollReactor(name: "test", logger: .silent)
  try reactor.start()
  let address = reactor.serve { _, handler in
    ledger.add("accepted")
    handler.closed = { _ in ledger.add("closed") }
  }
  let client = try Client(address)
  ledger.wait("accepted", atLeast: 1)
  for _ in 0..<100 { reactor.submit { ledger.add("job") } }
  reactor.stop()
  #expect(ledger["job"] == 100)
  #expect(ledger["closed"] == 1)
  #expect(try client.receive() == [])
  reactor.submit { ledger.add("late") }
  #expect(ledger["late"] == 0)
  client.close()
  #expect(throws: IOError.self) { try Client(address) }
}

@Test("a watched descriptor reports that it is readable until the watch is cancelled")
func watchReportsReadable() throws {
  var pair: [Int32] = [0, 0]
  #expect(mr_socket_pair(&pair) == 0)
  defer { for descriptor in pair { mr_close(descriptor) } }
  let ledger = Ledger()
  try withReactor { reactor in
    let watched = pair[0]
    reactor.call {
      var watch: DescriptorWatch?
      do {
        watch = try reactor.watch(descriptor: watched) {
          var byte: UInt8 = 0
          ledger.add("bytes", mr_receive(watched, &byte, 1))
          if ledger["bytes"] == 2 { watch?.cancel() }
        }
      } catch { Issue.record(error) }
    }
    #expect(mr_write(pair[1], [1, 2, 3], 3) == 3)
    ledger.wait("bytes", atLeast: 2)
    reactor.call {}
    reactor.call {}
    #expect(ledger["bytes"] == 2)
  }
}

@Test("listening on a port that is taken, or on a name, is refused with the reason")
func listenErrors() throws {
  try withReactor { reactor in
    let address = reactor.serve { _, _ in }
    let codes = reactor.call {
      [address, SocketAddress(host: "localhost", port: 0)].map { wanted -> IOError? in
        do throws(IOError) {
          _ = try reactor.listen(wanted) { _ in ClosureHandler() }
          return nil
        } catch { return error }
      }
    }
    #expect(codes[0]?.code == .addressInUse)
    #expect(codes[0]?.subject == address.description)
    #expect(codes[1]?.reason == "not a numeric IPv4 or IPv6 address")
  }
}
