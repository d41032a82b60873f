// TransactionToolsTests: what tools are told of transactional ids.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import Testing

@testable import MillraceKafkaServer

@Test("transactions are listed by a regular expression that stands for the whole id; a malformed one is an error")
func listedByPattern() throws {
  let client = AdminClient(try ServerWorld())
  for id in ["orders-1", "orders-2", "old-orders-1", "payments"] {
    let answer = try client.ask(InitProducerIdRequest(transactionalID: id, transactionTimeoutMilliseconds: 1000))
    try #require(answer.errorCode == .none)
  }
  func list(_ pattern: String?, states: [String] = [], version: Int16 = 2) throws -> [String] {
    let request = ListTransactionsRequest(stateFilters: states, transactionalIDPattern: pattern)
    let answer = try client.ask(request, version)
    guard answer.errorCode == .none else {
      #expect(answer.transactionStates.isEmpty)
      return ["\(answer.errorCode)"]
    }
    return answer.transactionStates.map(\.transactionalID)
  }
  #expect(ListTransactionsRequest.api.supportedVersions == 0...2)
  #expect(try list("orders-.*") == ["orders-1", "orders-2"])
  #expect(try list(".*-1") == ["old-orders-1", "orders-1"])
  #expect(try list("orders") == [])
  #expect(try list("") == list(nil) && list(nil).count == 4)
  #expect(try list("orders-.*", states: ["Ongoing"]) == [])
  #expect(try list("orders-(") == ["\(KafkaErrorCode.invalidRegularExpression)"])
  // Who does not know of it is not held to it.
  #expect(try list("orders-1", version: 1).count == 4)
}
