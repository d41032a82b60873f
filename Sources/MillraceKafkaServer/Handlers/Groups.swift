// Groups: finding the coordinator and the life of a classic group's member.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol

extension KafkaConnection {
  func handleFindCoordinator(_ request: FindCoordinatorRequest, _ context: RequestContext<FindCoordinatorResponse>) {
    // Groups, transactions, and partitions of share groups.
    let isKnown = (0...2).contains(request.keyType)
    let code: KafkaErrorCode = isKnown ? .none : .invalidRequest
    let reason = isKnown ? nil : "coordinators of type \(request.keyType) do not exist here"
    var response = FindCoordinatorResponse(errorCode: code, errorMessage: reason, nodeID: -1, host: "", port: -1)
    if isKnown {
      response.nodeID = KafkaServer.nodeID
      response.host = advertised.host
      response.port = Int32(advertised.port)
    }
    response.coordinators = request.coordinatorKeys.map { key in
      .init(
        key: key, nodeID: response.nodeID, host: response.host, port: response.port, errorCode: code,
        errorMessage: reason)
    }
    context.answer(response)
  }

  func handleJoinGroup(_ request: JoinGroupRequest, _ context: RequestContext<JoinGroupResponse>) {
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
      try broker.groups.heartbeat(
        group: request.groupID, memberID: request.memberID, instanceID: request.groupInstanceID,
        generation: request.generationID)
    } catch {
      code = KafkaErrorCode(group: error)
    }
    context.answer(HeartbeatResponse(errorCode: code))
  }

  func handleLeaveGroup(_ request: LeaveGroupRequest, _ context: RequestContext<LeaveGroupResponse>) {
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
    for name in broker.groups.names {
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
          if request.includeAuthorizedOperations { answer.authorizedOperations = AuthorizedOperations.group }
          return answer
        }))
  }
}
