// HeaderTests: header versions, frames, advertised versions and the ways old and new clients meet.

import MillraceBase
import MillraceKafkaProtocol
import Testing

private func joined(_ pieces: [Bytes]) -> [UInt8] { pieces.flatMap(\.array) }

private func body(_ pieces: [Bytes]) -> Bytes { Bytes(Array(joined(pieces).dropFirst(4))) }

@Test("a request header has tagged fields from the API's first flexible version on, and a classic client id always")
func requestHeaders() throws {
  #expect(
    joined(KafkaFrame.request(ApiVersionsRequest(), version: 2, correlationID: 7, clientID: "me"))
      == [0, 0, 0, 12, 0, 18, 0, 2, 0, 0, 0, 7, 0, 2, 109, 101])
  #expect(
    joined(KafkaFrame.request(ApiVersionsRequest(), version: 3, correlationID: 7, clientID: "me"))
      == [0, 0, 0, 16, 0, 18, 0, 3, 0, 0, 0, 7, 0, 2, 109, 101, 0, 1, 1, 0])
  #expect(
    joined(KafkaFrame.request(ApiVersionsRequest(), version: 0, correlationID: -1))
      == [0, 0, 0, 10, 0, 18, 0, 0, 255, 255, 255, 255, 255, 255])
}

@Test("a response header has a tagged field section for flexible versions, but never for ApiVersions")
func responseHeaders() throws {
  #expect(joined(KafkaFrame.response(HeartbeatResponse(), version: 3, correlationID: 9)).count == 4 + 4 + 6)
  #expect(
    joined(KafkaFrame.response(HeartbeatResponse(), version: 4, correlationID: 9))
      == [0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0])
  #expect(
    joined(KafkaFrame.response(ApiVersionsResponse(), version: 3, correlationID: 9))
      == [0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 0])
}

@Test("every API's tables agree: flexible version, advertised and readable versions of request and response")
func apiTables() {
  for api in APIKey.allCases {
    #expect(api.requestType.api == api)
    #expect(api.responseType.api == api)
    #expect(api.requestType.versions == api.responseType.versions, "\(api)")
    #expect(api.requestType.versions.contains(api.supportedVersions.upperBound), "\(api)")
    #expect(api.supportedVersions.upperBound == api.advertisedVersions.upperBound, "\(api)")
    if api != .produce { #expect(api.supportedVersions == api.advertisedVersions, "\(api)") }
  }
  #expect(APIKey.produce.advertisedVersions == 0...13)
  #expect(APIKey.produce.supportedVersions == 3...13)
  #expect(APIKey.offsetForLeaderEpoch.name == "OffsetForLeaderEpoch")
}

@Test("what is advertised is all that is served, in the order of the keys")
func advertisedList() {
  let served = APIKey.allCases.filter { !APIKey.unserved.contains($0) }
  #expect(APIKey.advertisedList.map(\.apiKey) == served.map(\.rawValue).sorted())
  #expect(APIKey.allCases.count == 58)
  for key: Int16 in [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 22, 23, 32] {
    #expect(APIKey.advertisedList.contains { $0.apiKey == key }, "\(key)")
  }
}

@Test("a request that is not supported still gives up its number and client id")
func unsupportedHeaders() throws {
  for (key, version) in [(Int16(18), Int16(99)), (0, 2), (0, 14), (999, 0), (-1, -1)] {
    var writer = ByteWriter()
    writer.int16(key)
    writer.int16(version)
    writer.int32(42)
    writer.int16(1)
    writer.utf8("x")
    var reader = ByteReader(writer.finishJoined())
    let header = try RequestHeader(from: &reader)
    #expect(header == RequestHeader(apiKey: key, apiVersion: version, correlationID: 42, clientID: "x"))
    #expect(!header.isSupported)
  }
}

@Test("a request header skips tagged fields that nobody knows")
func headerTags() throws {
  let bytes: [UInt8] = [0, 12, 0, 4, 0, 0, 0, 5, 255, 255, 1, 7, 2, 1, 2, 99]
  var reader = ByteReader(Bytes(bytes))
  let header = try RequestHeader(from: &reader)
  #expect(header == RequestHeader(apiKey: 12, apiVersion: 4, correlationID: 5))
  #expect(try reader.uint8() == 99)
}

@Test("every prefix of a request header is refused")
func headerPrefixes() {
  let bytes: [UInt8] = [0, 12, 0, 4, 0, 0, 0, 5, 0, 1, 65, 1, 7, 2, 1, 2]
  for count in 0..<bytes.count {
    var reader = ByteReader(Bytes(Array(bytes.prefix(count))))
    #expect(throws: DecodingError.self, "\(count) bytes") { try RequestHeader(from: &reader) }
  }
}

@Test("a request decodes to what was sent, and bytes behind it are ignored")
func requestFrame() throws {
  let sent = HeartbeatRequest(groupID: "g", generationID: 3, memberID: "m", groupInstanceID: "i")
  let frame = body(KafkaFrame.request(sent, version: 4, correlationID: 11, clientID: "c"))
  let (header, received) = try KafkaFrame.decodeRequest(HeartbeatRequest.self, from: Bytes(frame.array + [1, 2, 3]))
  #expect(header == RequestHeader(apiKey: 12, apiVersion: 4, correlationID: 11, clientID: "c"))
  #expect(received == sent)
  #expect(throws: DecodingError.self) { try KafkaFrame.decodeRequest(LeaveGroupRequest.self, from: frame) }
}

@Test("the answer to an unknown ApiVersions version is version 0 with error 35 and the versions of ApiVersions")
func apiVersionsFallback() throws {
  let frame = KafkaFrame.unsupportedApiVersions(correlationID: 3)
  #expect(joined(frame) == [0, 0, 0, 16, 0, 0, 0, 3, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4])
  for version in ApiVersionsRequest.versions {
    let answer = try KafkaFrame.decodeResponse(to: ApiVersionsRequest.self, version: version, from: body(frame))
    #expect(answer.correlationID == 3)
    #expect(answer.body.errorCode == .unsupportedVersion)
    #expect(answer.body.apiKeys == [.init(apiKey: 18, minVersion: 0, maxVersion: 4)])
  }
}

@Test("the highest version both sides speak is chosen, and none when they have none in common")
func commonVersions() {
  func with(_ low: Int16, _ high: Int16) -> Int16? {
    APIKey.produce.commonVersion(with: [.init(apiKey: 0, minVersion: low, maxVersion: high)])
  }
  #expect(with(0, 9) == 9)
  #expect(with(0, 99) == 13)
  #expect(with(3, 3) == 3)
  #expect(with(0, 2) == nil)
  #expect(with(14, 15) == nil)
  #expect(APIKey.fetch.commonVersion(with: []) == nil)
}

@Test("writing a version that a message does not have is a bug and stops the program")
func wrongVersionTraps() async {
  await #expect(processExitsWith: .failure) {
    var writer = ByteWriter()
    HeartbeatRequest().encode(to: &writer, version: 5)
  }
}

@Test("the error catalogue holds every code once, in order, with names and texts")
func errorCatalogue() {
  for (index, entry) in KafkaErrorCode.catalogue.enumerated() {
    #expect(Int(entry.code.rawValue) == index - 1)
    #expect(!entry.name.isEmpty && entry.text.hasSuffix("."))
  }
  #expect(Set(KafkaErrorCode.catalogue.map(\.name)).count == KafkaErrorCode.catalogue.count)
  #expect(KafkaErrorCode.catalogue.last?.code.rawValue == 133)
  for (code, value, name) in [
    (KafkaErrorCode.nonEmptyGroup, 68, "NON_EMPTY_GROUP"), (.groupIDNotFound, 69, "GROUP_ID_NOT_FOUND"),
    (.groupSubscribedToTopic, 86, "GROUP_SUBSCRIBED_TO_TOPIC"), (.producerFenced, 90, "PRODUCER_FENCED"),
    (.resourceNotFound, 91, "RESOURCE_NOT_FOUND"), (.unknownTopicID, 100, "UNKNOWN_TOPIC_ID"),
    (.fencedMemberEpoch, 110, "FENCED_MEMBER_EPOCH"), (.unreleasedInstanceID, 111, "UNRELEASED_INSTANCE_ID"),
    (.unsupportedAssignor, 112, "UNSUPPORTED_ASSIGNOR"), (.staleMemberEpoch, 113, "STALE_MEMBER_EPOCH"),
    (.transactionAbortable, 120, "TRANSACTION_ABORTABLE"),
    (.invalidRegularExpression, 128, "INVALID_REGULAR_EXPRESSION"),
    (.shareSessionLimitReached, 133, "SHARE_SESSION_LIMIT_REACHED"),
  ] {
    #expect(Int(code.rawValue) == value && code.name == name)
  }
  #expect(KafkaErrorCode.unknownTopicOrPartition.rawValue == 3)
  #expect(KafkaErrorCode.unknownTopicOrPartition.isRetriable)
  #expect(!KafkaErrorCode.invalidTopic.isRetriable)
  #expect(KafkaErrorCode.unsupportedVersion.description == "UNSUPPORTED_VERSION (35)")
  #expect(KafkaErrorCode(rawValue: 9999).name == "CODE_9999")
  #expect(KafkaErrorCode(rawValue: .max).entry == nil && KafkaErrorCode(rawValue: .min).entry == nil)
}
