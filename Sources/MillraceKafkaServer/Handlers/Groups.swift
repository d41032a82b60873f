// Groups: finding the coordinator and the life of a classic group's member.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity

extension KafkaConnection {
  func handleFindCoordinator(_ request: FindCoordinatorRequest, _ context: RequestContext<FindCoordinatorResponse>) {
    func find(_ key: String) -> FindCoordinatorResponse.Coordinator {
      do throws(BrokerError) {
        try checkCoordinator(of: key, type: request.keyType)
        return .init(
          key: key, nodeID: KafkaServer.nodeID, host: advertised.host, port: Int32(advertised.port),
          errorMessage: nil)
      } catch {
        return .init(
          key: key, nodeID: -1, host: "", port: -1, errorCode: KafkaErrorCode(error), errorMessage: error.reason)
      }
    }
    guard context.version < 4 else {
      return context.answer(FindCoordinatorResponse(coordinators: request.coordinatorKeys.map(find)))
    }
    let found = find(request.key)
    context.answer(
      FindCoordinatorResponse(
        errorCode: found.errorCode, errorMessage: found.errorMessage, nodeID: found.nodeID, host: found.host,
        port: found.port))
  }

  /// Groups are 0, transactions 1, and partitions of share groups 2, which only brokers look for.
  private func checkCoordinator(of key: String, type: Int8) throws(BrokerError) {
    switch type {
    case 0: try require(.describe, .group, key)
    case 1: try require(.describe, .transactionalID, key)
    case 2: try requireCluster(.clusterAction)
    default: throw BrokerError(.invalidRequest, "coordinators of type \(type) do not exist here")
    }
  }

  func handleJoinGroup(_ request: JoinGroupRequest, _ context: RequestContext<JoinGroupResponse>) {
    guard client.allows(.read, .group, request.groupID) else {
      return context.answer(
        JoinGroupResponse(
          errorCode: .groupAuthorizationFailed, protocolName: context.version >= 7 ? nil : "",
          memberID: request.memberID))
    }
    let rebalance =
      // Version 0 has none.
      request.rebalanceTimeoutMilliseconds == -1
      ? request.sessionTimeoutMilliseconds : request.rebalanceTimeoutMilliseconds
    let join = GroupJoinRequest(
      group: request.groupID, memberID: request.memberID, instanceID: request.groupInstanceID,
      clientID: context.header.clientID ?? "", clientHost: "/" + connection.remoteAddress.host,
      sessionTimeout: .milliseconds(Int(request.sessionTimeoutMilliseconds)),
      rebalanceTimeout: .milliseconds(Int(rebalance)), protocolType: request.protocolType,
      protocols: request.protocols.map { ($0.name, $0.metadata) }, requiresKnownID: context.version >= 4)
    broker.groups.join(join) { result in
      var response = JoinGroupResponse()
      switch result {
      case .success(let joined):
        response.generationID = joined.generation
        response.protocolType = joined.protocolType
        response.protocolName = joined.protocolName
        response.leader = joined.leader
        response.memberID = joined.memberID
        response.skipAssignment = joined.skipAssignment
        response.members = joined.members.map {
          .init(memberID: $0.id, groupInstanceID: $0.instanceID, metadata: $0.metadata)
        }
      case .failure(let error):
        response.errorCode = KafkaErrorCode(group: error)
        // Before version 7 the name cannot be null.
        response.protocolName = context.version >= 7 ? nil : ""
        // The reason of this one is the id to come back with.
        response.memberID = error.code == .memberIDRequired ? error.reason : request.memberID
      }
      context.answer(response)
    }
  }

  func handleSyncGroup(_ request: SyncGroupRequest, _ context: RequestContext<SyncGroupResponse>) {
    guard client.allows(.read, .group, request.groupID) else {
      return context.answer(SyncGroupResponse(errorCode: .groupAuthorizationFailed))
    }
    broker.groups.sync(
      group: request.groupID, memberID: request.memberID, instanceID: request.groupInstanceID,
      generation: request.generationID, protocolType: request.protocolType, protocolName: request.protocolName,
      assignments: request.assignments.map { ($0.memberID, $0.assignment) }
    ) { result in
      switch result {
      case .success(let synced):
        context.answer(
          SyncGroupResponse(
            protocolType: synced.protocolType, protocolName: synced.protocolName, assignment: synced.assignment))
      case .failure(let error): context.answer(SyncGroupResponse(errorCode: KafkaErrorCode(group: error)))
      }
    }
  }

  func handleHeartbeat(_ request: HeartbeatRequest, _ context: RequestContext<HeartbeatResponse>) {
    var code = KafkaErrorCode.none
    do throws(BrokerError) {
      try require(.read, .group, request.groupID)
      try broker.groups.heartbeat(
        group: request.groupID, memberID: request.memberID, instanceID: request.groupInstanceID,
        generation: request.generationID)
    } catch {
      code = KafkaErrorCode(group: error)
    }
    context.answer(HeartbeatResponse(errorCode: code))
  }

  func handleLeaveGroup(_ request: LeaveGroupRequest, _ context: RequestContext<LeaveGroupResponse>) {
    guard client.allows(.read, .group, request.groupID) else {
      return context.answer(LeaveGroupResponse(errorCode: .groupAuthorizationFailed))
    }
    let leaving: [LeaveGroupRequest.MemberIdentity] =
      context.version >= 3 ? request.members : [.init(memberID: request.memberID)]
    var response = LeaveGroupResponse()
    for member in leaving {
      var code = KafkaErrorCode.none
      do throws(BrokerError) {
        try broker.groups.leave(
          group: request.groupID, memberID: member.memberID, instanceID: member.groupInstanceID)
      } catch {
        code = KafkaErrorCode(group: error)
      }
      response.members.append(
        .init(memberID: member.memberID, groupInstanceID: member.groupInstanceID, errorCode: code))
    }
    if context.version < 3, let only = response.members.first { response.errorCode = only.errorCode }
    context.answer(response)
  }

  func handleListGroups(_ request: ListGroupsRequest, _ context: RequestContext<ListGroupsResponse>) {
    let states = Set(request.statesFilter.map { $0.lowercased() })
    let types = Set(request.typesFilter.map { $0.lowercased() })
    var response = ListGroupsResponse()
    let seesAll = client.sees(.describe, .cluster, ResourceName.cluster)
    for name in broker.groups.names where seesAll || client.sees(.describe, .group, name) {
      let group = broker.groups.describe(name)
      guard states.isEmpty || states.contains(group.state.lowercased()) else { continue }
      guard types.isEmpty || types.contains(group.kind.rawValue) else { continue }
      response.groups.append(
        .init(
          groupID: name, protocolType: group.protocolType, groupState: group.state,
          groupType: group.kind.rawValue))
    }
    context.answer(response)
  }

  func handleDescribeGroups(_ request: DescribeGroupsRequest, _ context: RequestContext<DescribeGroupsResponse>) {
    context.answer(
      DescribeGroupsResponse(
        groups: request.groups.firstOfEach(\.self).map { name in
          guard client.allows(.describe, .group, name) else {
            return .init(
              errorCode: .groupAuthorizationFailed, errorMessage: denial(.describe, .group, name).reason, groupID: name)
          }
          var group = broker.groups.describe(name)
          var reason = "group \(name) does not exist"
          if group.kind != .classic {
            // Its members have neither metadata nor assignments in the form of classic ones. Source: Kafka, KIP-1043.
            reason = "group \(name) is not a classic group"
            group = GroupDescription(
              name: name, kind: .classic, state: "Dead", protocolType: "", protocolName: "", members: [])
          }
          var answer = DescribeGroupsResponse.DescribedGroup(
            groupID: name, groupState: group.state, protocolType: group.protocolType, protocolData: group.protocolName)
          if group.state == "Dead", context.version >= 6 {
            answer.errorCode = .groupIDNotFound
            answer.errorMessage = reason
          }
          answer.members = group.members.map { member in
            .init(
              memberID: member.id, groupInstanceID: member.instanceID, clientID: member.clientID,
              clientHost: member.clientHost, memberMetadata: member.metadata, memberAssignment: member.assignment)
          }
          if request.includeAuthorizedOperations { answer.authorizedOperations = authorizedOperations(.group, name) }
          return answer
        }))
  }
}
