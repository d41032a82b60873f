// MessageQueue: ten messages go from two producer threads through a queue to two consumer threads.
//
//   swift run --package-path examples MessageQueue

import Foundation
import Millrace
import Synchronization

enum MessageQueue {
  static func run() {
    // Room for three messages: producers wait while consumers are behind.
    let queue = InProcessQueue<String>(capacity: 3)
    let received = Mutex<[String]>([])

    let producers = ["anna", "bert"].map { name in
      started {
        do throws(QueueError) {
          for number in 1...5 {
            try queue.send("\(name) \(number)")
            print("\(name) sent \(number)")
          }
        } catch { print("\(name) cannot send: \(error)") }
      }
    }
    let consumers = (1...2).map { number in
      started {
        while let message = queue.receive() {
          print("consumer \(number) received \(message)")
          received.withLock { $0.append(message) }
        }
        print("consumer \(number) is done")
      }
    }

    for producer in producers { producer.wait() }
    queue.close()
    for consumer in consumers { consumer.wait() }

    let expected = ["anna", "bert"].flatMap { name in (1...5).map { "\(name) \($0)" } }
    let all = received.withLock { $0.sorted() }
    print("\(all.count) messages received")
    guard all == expected else {
      print("expected \(expected), received \(all)")
      exit(1)
    }
  }

  /// Starts a thread; the semaphore says when it has ended.
  static func started(_ body: @escaping @Sendable () -> Void) -> DispatchSemaphore {
    let ended = DispatchSemaphore(value: 0)
    Thread {
      body()
      ended.signal()
    }.start()
    return ended
  }
}
