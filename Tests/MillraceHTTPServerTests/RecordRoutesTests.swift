// RecordRoutesTests: topics and records through the API, waiting for them, and events.

import Foundation
import MillraceBase
import MillraceBroker
import Testing

@testable import MillraceHTTPServer

@Test("a topic is created, described, configured, listed page by page and deleted")
func topicLife() throws {
  let world = try HTTPWorld()
  let client = world.connect()
  let made = client.ask("PUT", "/api/v1/topics/t", #"{"partitions":2,"settings":{"retention.ms":"5"}}"#)
  #expect(made?.status == 201 && (made?.json["partitions"] as? [Any])?.count == 2)
  #expect(client.ask("PUT", "/api/v1/topics/t")?.status == 409)
  #expect(client.ask("PUT", "/api/v1/topics/u")?.status == 201)
  let changed = client.ask(
    "PATCH", "/api/v1/topics/t", #"{"partitions":3,"settings":{"retention.ms":null,"segment.ms":"9"}}"#)
  #expect(changed?.json["settings"] as? [String: String] == ["segment.ms": "9"])
  #expect((changed?.json["partitions"] as? [Any])?.count == 3)
  #expect(client.ask("PATCH", "/api/v1/topics/t", #"{"partitions":1}"#)?.status == 400)
  #expect(client.ask("PATCH", "/api/v1/topics/t", #"{"settings":{"retention.ms":"soon"}}"#)?.status == 400)
  let first = client.ask("GET", "/api/v1/topics?limit=1")
  #expect(first?.json["next"] as? String == "t")
  let second = client.ask("GET", "/api/v1/topics?limit=1&after=t")
  #expect((second?.json["topics"] as? [[String: Any]])?.first?["name"] as? String == "u")
  #expect(client.ask("DELETE", "/api/v1/topics/t")?.status == 204)
  #expect(client.ask("DELETE", "/api/v1/topics/t")?.status == 404)
  #expect(client.ask("PUT", "/api/v1/topics/__mine")?.status == 400)
}

@Test("what is wrong is named, with its place in the request")
func problems() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let client = world.connect()
  for (method, path, body, place) in [
    ("PUT", "/api/v1/topics/x", #"{"partitions":0}"#, "/partitions"),
    ("PUT", "/api/v1/topics/x", #"{"partition":1}"#, "/partition"),
    ("PUT", "/api/v1/topics/x", #"{"settings":{"a":1}}"#, "/settings/a"),
    ("PUT", "/api/v1/topics/x", "[", "/"), ("PUT", "/api/v1/topics/x", "{} {}", "/"),
    ("PUT", "/api/v1/topics/x", String(repeating: "[", count: 100), "/"),
    ("POST", "/api/v1/topics/t/records", #"{"records":[]}"#, "/records"),
    ("POST", "/api/v1/topics/t/records", #"{"records":[{"keyBase64":"?"}]}"#, "/records/0/keyBase64"),
    ("POST", "/api/v1/topics/t/records", #"{"records":[{},{"a~/b":1}]}"#, "/records/1/a~0~1b"),
    ("POST", "/api/v1/topics/t/records", #"{"records":[{"partition":1}]}"#, "/records/0/partition"),
    ("POST", "/api/v1/topics/t/records", "{}", "/records"),
    ("GET", "/api/v1/topics/t/partitions/x/records", nil, "path partition"),
    ("GET", "/api/v1/topics/t/partitions/0/records?wait=-1", nil, "query wait"),
    ("GET", "/api/v1/topics/t/partitions/0/records?limit=+1", nil, "query limit"),
    ("GET", "/api/v1/topics/t/partitions/0/records?limit=1&limit=2", nil, "query limit"),
    ("GET", "/api/v1/topics/t/partitions/0/records?offset=1&from=latest", nil, "query from"),
    ("GET", "/api/v1/topics/t/partitions/0/records?nothing=1", nil, "query nothing"),
  ] as [(String, String, String?, String)] {
    let response = client.ask(method, path, body)
    #expect([400, 404].contains(response?.status), "\(path) \(body ?? "")")
    #expect(response?.json["at"] as? String == place, "\(path) \(body ?? ""): \(response?.body ?? "")")
    #expect((response?.json["type"] as? String)?.hasPrefix("urn:millrace:") == true)
  }
  #expect(
    client.ask("PUT", "/api/v1/topics/x", "a=1", fields: "Content-Type: application/x-www-form-urlencoded\r\n")?.status
      == 415)
}

@Test("records of every kind go in and come out as they were")
func records() throws {
  let world = try HTTPWorld()
  try world.topic("t", partitions: 2)
  let client = world.connect()
  let sent = client.ask(
    "POST", "/api/v1/topics/t/records",
    #"{"records":[{"value":"a","partition":1,"timestamp":7},{"key":"k","value":{"n":[1,2.5,null]},"partition":1},"#
      + #"{"keyBase64":"/w==","value":null,"headers":[{"key":"h","value":"v"},{"key":"b","valueBase64":"AP8="}],"partition":1},"#
      + #"{"value":"elsewhere","partition":0}]}"#)
  #expect(sent?.status == 201)
  let places = (sent?.json["records"] as? [[String: Int]])?.map { "\($0["partition"] ?? -1):\($0["offset"] ?? -1)" }
  #expect(places == ["1:0", "1:1", "1:2", "0:0"])
  let page = client.ask("GET", "/api/v1/topics/t/partitions/1/records?format=json")
  let records = page?.json["records"] as? [[String: Any]] ?? []
  #expect(records.count == 3 && page?.json["nextOffset"] as? Int == 3)
  #expect(records.first?["timestamp"] as? Int == 7 && records.first?["value"] as? String == "a")
  #expect(((records[1]["value"] as? [String: Any])?["n"] as? [Any])?.count == 3)
  #expect(records[2]["keyBase64"] as? String == "/w==" && records[2]["value"] is NSNull)
  #expect((records[2]["headers"] as? [[String: String]])?[1] == ["key": "b", "valueBase64": "AP8="])
  let text =
    client.ask("GET", "/api/v1/topics/t/partitions/1/records?offset=1&limit=1")?.json["records"] as? [[String: Any]]
  #expect(text?.count == 1 && text?.first?["value"] as? String == #"{"n":[1,2.5,null]}"#)
  #expect(client.ask("GET", "/api/v1/topics/t/partitions/1/records/0/value")?.body == "a")
  #expect(client.ask("GET", "/api/v1/topics/t/partitions/1/records/9/value")?.status == 416)
  #expect(
    (client.ask("GET", "/api/v1/topics/t/partitions/1/records?timestamp=8")?.json["records"] as? [Any])?.count == 2)
  #expect(
    (client.ask("GET", "/api/v1/topics/t/partitions/1/records?from=latest")?.json["records"] as? [Any])?.isEmpty == true
  )
  let raw = client.ask(
    "POST", "/api/v1/topics/t/records?key=q&partition=0", "\u{1}raw", fields: "Content-Type: text/plain\r\n")
  #expect((raw?.json["records"] as? [[String: Int]])?.first?["offset"] == 1)
  #expect(client.ask("DELETE", "/api/v1/topics/t/partitions/1/records?before=2")?.json["startOffset"] as? Int == 2)
  #expect(client.ask("GET", "/api/v1/topics/t/partitions/1/records?offset=1")?.status == 416)
}

@Test(
  "a reader that waits gets records when they come, nothing when time is over, and gives its place back in any case")
func longPoll() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let (reader, writer) = (world.connect(), world.connect())
  let path = "/api/v1/topics/t/partitions/0/records"
  reader.send("GET \(path)?wait=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
  #expect(reader.output().isEmpty && world.server.waiting == 1)
  #expect(writer.ask("POST", "/api/v1/topics/t/records", "x", fields: "Content-Type: text/plain\r\n")?.status == 201)
  #expect((reader.response()?.json["records"] as? [Any])?.count == 1 && world.server.waiting == 0)
  reader.send("GET \(path)?offset=1&wait=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
  #expect(reader.output(after: .seconds(4)).isEmpty)
  #expect(reader.response()?.json["nextOffset"] as? Int == 1)
  // A client that sends no more is answered at once, one that is gone is forgotten.
  reader.send("GET \(path)?offset=1&wait=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
  _ = reader.output()
  reader.connection.end()
  #expect(reader.response()?.status == 200 && world.server.waiting == 0)
  let gone = world.connect()
  gone.send("GET \(path)?offset=1&wait=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
  _ = gone.output()
  #expect(world.server.waiting == 1)
  gone.connection.lose()
  #expect(world.server.waiting == 0)
}

@Test("events come as records do, go on behind an id, and end with the client")
func events() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let (listener, writer) = (world.connect(), world.connect())
  func write(_ text: String) {
    #expect(writer.ask("POST", "/api/v1/topics/t/records", text, fields: "Content-Type: text/plain\r\n")?.status == 201)
  }
  write("zero")
  listener.send("GET /api/v1/topics/t/partitions/0/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
  let head = listener.output()
  #expect(head.contains("Content-Type: text/event-stream\r\n") && !head.contains("zero"), "only what is new")
  write("one")
  let event = listener.output()
  #expect(event.contains("id: 1\ndata: {\"partition\":0,\"offset\":1,") && event.contains("\"value\":\"one\""))
  #expect(listener.output(after: .seconds(16)).contains(":\n\n"), "a sign of life")
  listener.connection.lose()
  #expect(world.server.waiting == 0)
  let again = world.connect()
  again.send("GET /api/v1/topics/t/partitions/0/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n")
  #expect(again.output().contains("id: 1\n"))
  again.connection.end()
  #expect(again.output().hasSuffix("0\r\n\r\n") && again.connection.isClosing && world.server.waiting == 0)
  #expect(writer.ask("GET", "/api/v1/topics/t/partitions/0/events?offset=9")?.status == 416)
  #expect(world.server.waiting == 0)
}

@Test("events wait while their client does not read")
func slowListener() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let (listener, writer) = (world.connect(), world.connect())
  let large = String(repeating: "x", count: 200_000)
  listener.connection.sendsAtOnce = false
  listener.send("GET /api/v1/topics/t/partitions/0/events?from=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n")
  for _ in 0..<20 {
    #expect(
      writer.ask("POST", "/api/v1/topics/t/records", large, fields: "Content-Type: text/plain\r\n")?.status == 201)
  }
  world.world.run(for: .seconds(1))
  #expect(listener.connection.pendingWriteBytes < 1 << 20)
  listener.connection.sendsAtOnce = true
  listener.connection.drain()
  #expect(listener.output(after: .seconds(1)).contains("id: 19\n"))
}

@Test("readiness tells why not, and is none of liveness")
func health() throws {
  let world = try HTTPWorld()
  let client = world.connect()
  #expect(client.ask("GET", "/health/ready")?.status == 200)
  world.server.prepareToClose()
  let closing = client.ask("GET", "/health/ready")
  #expect(closing?.status == 503 && (closing?.json["reasons"] as? [String]) == ["the server is closing"])
  #expect(closing?.fields["connection"] == "close")
  #expect(world.connect().ask("GET", "/health/live")?.status == 200)
}
