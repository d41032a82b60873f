// QueueName: what a queue is looked up by.

/// A queue's virtual host and name, compared by the bytes of UTF-8, as AMQP's names are; Swift's `==` compares normalised text.
struct QueueName: Hashable {
  let virtualHost: String
  let name: String

  static func == (left: QueueName, right: QueueName) -> Bool {
    left.name.utf8.elementsEqual(right.name.utf8) && left.virtualHost.utf8.elementsEqual(right.virtualHost.utf8)
  }

  func hash(into hasher: inout Hasher) {
    for var text in [virtualHost, name] {
      hasher.combine(text.utf8.count)
      text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
  }
}
