// QueueRoutesTests: messages through the API: tokens, their time, limits, and what the management routes make of them.

import Foundation
import MillraceBase
import Testing

@testable import MillraceHTTPServer

/// A queue with messages.
private func filled(_ world: HTTPWorld, _ bodies: [String]) -> HTTPClient {
  let client = world.connect()
  #expect(client.ask("PUT", "/api/v1/queues/q")?.status == 201)
  guard !bodies.isEmpty else { return client }
  let messages = bodies.map { "{\"body\":\"\($0)\"}" }.joined(separator: ",")
  let published = client.ask("POST", "/api/v1/queues/q/messages", "{\"messages\":[\(messages)]}")
  #expect(published?.json["outcomes"] as? [String] == bodies.map { _ in "confirmed" })
  return client
}

private func messages(_ response: Response?) -> [[String: Any]] { response?.json["messages"] as? [[String: Any]] ?? [] }

@Test("a message that was taken is settled once by its token, and only through its own queue")
func tokens() throws {
  let world = try HTTPWorld()
  let client = filled(world, ["a", "b", "c"])
  #expect(client.ask("PUT", "/api/v1/queues/other")?.status == 201)
  let taken = messages(client.ask("POST", "/api/v1/queues/q/get", #"{"limit":2}"#))
  #expect(taken.map { $0["body"] as? String } == ["a", "b"])
  let tokens = taken.compactMap { $0["token"] as? String }
  #expect(Set(tokens).count == 2 && tokens.allSatisfy { $0.utf8.count == 32 } && world.server.taken.count == 2)
  let ack = #"{"settle":"ack"}"#
  #expect(client.ask("POST", "/api/v1/queues/other/deliveries/\(tokens[0])", ack)?.status == 404)
  #expect(client.ask("POST", "/api/v1/queues/q/deliveries/\(tokens[0])", #"{"settle":"burn"}"#)?.status == 400)
  #expect(client.ask("POST", "/api/v1/queues/q/deliveries/\(tokens[0])", ack)?.status == 204)
  #expect(client.ask("POST", "/api/v1/queues/q/deliveries/\(tokens[0])", ack)?.status == 404)
  #expect(client.ask("POST", "/api/v1/queues/q/deliveries/\(tokens[1])", #"{"settle":"retry"}"#)?.status == 204)
  let again = messages(client.ask("POST", "/api/v1/queues/q/get", #"{"limit":9,"settle":"now"}"#))
  #expect(again.map { $0["body"] as? String } == ["b", "c"] && again[0]["failures"] as? Int == 1)
  #expect(again.allSatisfy { $0["token"] is NSNull } && world.server.taken.count == 0)
}

@Test("what is not settled in its time goes back, and its token is worth nothing then")
func takenTimesOut() throws {
  let world = try HTTPWorld()
  let client = filled(world, ["a"])
  let taken = messages(client.ask("POST", "/api/v1/queues/q/get", #"{"timeoutMilliseconds":2000}"#))
  world.world.run(for: .milliseconds(1900))
  #expect(client.ask("GET", "/api/v1/queues/q")?.json["unacknowledged"] as? Int == 1)
  world.world.run(for: .milliseconds(200))
  #expect(client.ask("GET", "/api/v1/queues/q")?.json["ready"] as? Int == 1 && world.server.taken.count == 0)
  let token = taken.first?["token"] as? String ?? ""
  #expect(client.ask("POST", "/api/v1/queues/q/deliveries/\(token)", #"{"settle":"ack"}"#)?.status == 404)
}

@Test("a queue that is deleted takes its messages with it, and their tokens say so")
func deletedQueue() throws {
  let world = try HTTPWorld()
  let client = filled(world, ["a"])
  let token = messages(client.ask("POST", "/api/v1/queues/q/get"))[0]["token"] as? String ?? ""
  #expect(client.ask("DELETE", "/api/v1/queues/q")?.status == 200)
  #expect(client.ask("POST", "/api/v1/queues/q/deliveries/\(token)", #"{"settle":"ack"}"#)?.status == 410)
  #expect(world.server.taken.count == 0)
  #expect(client.ask("POST", "/api/v1/queues/q/get")?.status == 404)
}

@Test("no more messages than the bound are out at once")
func takenAreBounded() throws {
  let world = try HTTPWorld()
  let client = filled(world, ["a"])
  for _ in 0..<(TakenDeliveries.most / 1000) {
    let list = Array(repeating: "{}", count: 1000).joined(separator: ",")
    #expect(client.ask("POST", "/api/v1/queues/q/messages", "{\"messages\":[\(list)]}")?.status == 201)
    #expect(messages(client.ask("POST", "/api/v1/queues/q/get", #"{"limit":1000}"#)).count == 1000)
  }
  #expect(client.ask("POST", "/api/v1/queues/q/get")?.status == 429)
  world.server.giveBackDeliveries()
  #expect(world.server.taken.count == 0)
  #expect(messages(client.ask("POST", "/api/v1/queues/q/get")).count == 1)
}

@Test("what refuses a message is told, and no message of a request that cannot be read is published")
func refusals() throws {
  let world = try HTTPWorld()
  let client = filled(world, [])
  for (body, place) in [
    (#"{"messages":[{"body":"a"},{"properties":{"priority":256}}]}"#, "/messages/1/properties/priority"),
    (#"{"messages":[{"body":"a"},{"properties":{"color":1}}]}"#, "/messages/1/properties/color"),
    (#"{"messages":[{"body":"a"},{"bodyBase64":"?"}]}"#, "/messages/1/bodyBase64"),
  ] {
    let refused = client.ask("POST", "/api/v1/queues/q/messages", body)
    #expect(refused?.status == 400 && refused?.json["at"] as? String == place, "\(refused?.body ?? "")")
  }
  #expect(client.ask("GET", "/api/v1/queues/q")?.json["ready"] as? Int == 0)
  let full = #"{"arguments":{"x-max-length":1,"x-overflow":"reject-publish"}}"#
  #expect(client.ask("PUT", "/api/v1/queues/small", full)?.status == 201)
  let outcomes = client.ask("POST", "/api/v1/queues/small/messages", #"{"messages":[{},{}]}"#)?.json["outcomes"]
  #expect(outcomes as? [String] == ["confirmed", "refused"])
  #expect(client.ask("PUT", "/api/v1/queues/small", #"{"durable":false}"#)?.status == 409)
}

@Test("errors below /api without a version have what RabbitMQ's tools read")
func managementErrors() throws {
  let world = try HTTPWorld()
  let client = filled(world, ["a"])
  let refused = client.ask("PUT", "/api/queues/%2F/q", #"{"durable":"false"}"#)
  #expect(
    refused?.status == 400 && (refused?.json["reason"] as? String)?.contains("inequivalent arg 'durable'") == true)
  #expect(client.ask("GET", "/api/queues/nowhere")?.status == 404)
  let listed = client.ask("GET", "/api/queues/?columns=name")
  #expect(listed?.status == 200 && listed?.body.contains("\"messages_ready\":1") == true)
  let got = client.ask("POST", "/api/queues/%2F/q/get", #"{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}"#)
  #expect(got?.body.contains("\"payload\":\"a\"") == true)
  #expect(client.ask("POST", "/api/queues/%2F/q/get", #"{"count":1}"#)?.body == "[]")
  #expect(client.ask("GET", "/api/health/checks/alarms")?.json["status"] as? String == "ok")
  #expect(client.ask("GET", "/api/health/checks/nothing")?.status == 400)
}
