// ConsumerProtocolTests: what consumers of a group say to each other.

import MillraceBase
import MillraceKafkaProtocol
import Testing

private let subscription: ConsumerProtocolSubscription = {
  var subscription = ConsumerProtocolSubscription(topics: ["lines", "counts"])
  subscription.userData = Bytes([1, 2])
  subscription.ownedPartitions = [ConsumerTopicPartitions(topic: "lines", partitions: [0, 3])]
  subscription.generationID = 4
  subscription.rackID = "r"
  return subscription
}()

@Test("a subscription comes back with what its version holds")
func subscriptions() throws {
  for version in ConsumerProtocolSubscription.versions {
    let read = try ConsumerProtocolSubscription(subscription.encoded(version: version))
    #expect(read.topics == subscription.topics && read.userData == subscription.userData)
    #expect(read.ownedPartitions == (version >= 1 ? subscription.ownedPartitions : []))
    #expect(read.generationID == (version >= 2 ? 4 : -1))
    #expect(read.rackID == (version >= 3 ? "r" : nil))
  }
}

@Test("golden: a version 1 subscription is laid out as Kafka's")
func goldenSubscription() {
  var one = ConsumerProtocolSubscription(topics: ["t"])
  one.ownedPartitions = [ConsumerTopicPartitions(topic: "t", partitions: [2])]
  #expect(
    hex(one.encoded(version: 1).array) == "0001" + "00000001" + "000174" + "ffffffff" + "00000001" + "000174"
      + "00000001" + "00000002")
}

@Test("golden: an assignment is laid out as Kafka's and comes back")
func goldenAssignment() throws {
  let one = ConsumerProtocolAssignment([ConsumerTopicPartitions(topic: "t", partitions: [0, 1])])
  for version in ConsumerProtocolAssignment.versions {
    let bytes = one.encoded(version: version)
    #expect(
      hex(bytes.array) == "000\(version)" + "00000001" + "000174" + "00000002" + "00000000" + "00000001" + "ffffffff")
    #expect(try ConsumerProtocolAssignment(bytes) == one)
  }
}

@Test("a version from the future is read as the highest known, and what follows is ignored")
func futureVersions() throws {
  var bytes = subscription.encoded(version: 3).array
  bytes[1] = 9
  #expect(try ConsumerProtocolSubscription(Bytes(bytes + [1, 2, 3])) == subscription)
  bytes[0] = 0x80
  #expect(throws: DecodingError.self) { try ConsumerProtocolSubscription(Bytes(bytes)) }
}

@Test("every prefix of a subscription and an assignment is refused, but no bytes are an empty assignment")
func prefixes() throws {
  #expect(try ConsumerProtocolAssignment(Bytes()) == ConsumerProtocolAssignment())
  let one = subscription.encoded(version: 3)
  for count in 0..<one.count {
    #expect(throws: DecodingError.self) { try ConsumerProtocolSubscription(one[0..<count]) }
  }
  let assignment = ConsumerProtocolAssignment(subscription.ownedPartitions).encoded(version: 0)
  for count in 1..<assignment.count {
    #expect(throws: DecodingError.self) { try ConsumerProtocolAssignment(assignment[0..<count]) }
  }
}
