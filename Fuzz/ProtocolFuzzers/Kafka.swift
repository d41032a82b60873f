// Kafka: requests and responses of every API, as the server and as a client reads them.

import FuzzHarness
import MillraceBase
import MillraceKafkaProtocol

/// Request frames of any API; what is accepted must survive writing and reading again.
let requestFrames = FuzzTarget(name: "request-frames") { frame in
  var reader = ByteReader(frame)
  do throws(DecodingError) {
    let header = try RequestHeader(from: &reader)
    guard let api = header.api, header.isSupported else { return }
    recode(api.requestType, reader, version: header.apiVersion)
    // The same bytes as the response that would answer it.
    recode(api.responseType, reader, version: header.apiVersion)
  } catch {
    precondition(error.position >= 0 && error.position <= frame.count, "position \(error.position) of \(frame.count)")
  }
}

/// The body of one request or response, chosen by the first two bytes, so that every type gets its share.
let messages = FuzzTarget(
  name: "messages", seeds: { (0..<(2 * APIKey.allCases.count)).map { [UInt8($0), 255, 0, 0, 0, 0, 0, 0, 0, 0] } }
) { input in
  var choices = Choices(input)
  let choice = choices.byte()
  let api = APIKey.allCases[choice / 2 % APIKey.allCases.count]
  let versions = api.supportedVersions
  let version = versions.lowerBound + Int16(choices.byte()) % Int16(versions.count)
  let reader = ByteReader(choices.rest())
  if choice % 2 == 0 {
    recode(api.requestType, reader, version: version)
  } else {
    recode(api.responseType, reader, version: version)
  }
}

/// What members of a classic group say to each other.
let consumerProtocol = FuzzTarget(
  name: "consumer-protocol",
  seeds: {
    var subscription = ConsumerProtocolSubscription(topics: ["a", "b"])
    subscription.ownedPartitions = [ConsumerTopicPartitions(topic: "a", partitions: [0, 1])]
    let assignment = ConsumerProtocolAssignment(subscription.ownedPartitions)
    return (Int16(0)...3).flatMap { version in
      [subscription.encoded(version: version).array, assignment.encoded(version: version).array]
    }
  }
) { input in
  do throws(DecodingError) {
    let value = try ConsumerProtocolSubscription(input)
    let again = try ConsumerProtocolSubscription(value.encoded(version: 3))
    precondition(again == value, "a subscription changes when written and read again")
  } catch {
    precondition(error.position <= input.count, "position \(error.position) of \(input.count)")
  }
  do throws(DecodingError) {
    let value = try ConsumerProtocolAssignment(input)
    let again = try ConsumerProtocolAssignment(value.encoded(version: 3))
    precondition(again == value, "an assignment changes when written and read again")
  } catch {
    precondition(error.position <= input.count, "position \(error.position) of \(input.count)")
  }
}

private func recode<Message: KafkaMessage>(_ type: Message.Type, _ body: ByteReader, version: Int16) {
  var reader = body
  let value: Message
  do throws(DecodingError) {
    value = try Message(from: &reader, version: version)
  } catch {
    return
  }
  var writer = ByteWriter()
  value.encode(to: &writer, version: version)
  var second = ByteReader(writer.finishJoined())
  let again: Message
  do throws(DecodingError) {
    again = try Message(from: &second, version: version)
  } catch {
    preconditionFailure("\(type) version \(version) was accepted, written, and refused: \(error)")
  }
  // What is not a number differs from itself, but is described alike.
  let isStable = again == value || String(describing: again) == String(describing: value)
  precondition(isStable, "\(type) version \(version) changes when written and read again")
  precondition(second.remaining == 0, "\(type) version \(version) leaves \(second.remaining) of its own bytes")
}
