// Machine: a real broker with its protocol servers on a simulated machine, small enough to be made anew for each input.

import FuzzStorage
import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceIO
import MillraceKafkaProtocol
import MillraceKafkaServer
import MillraceLog
import MillraceModel
import MillraceSimulation

/// A simulated machine with a broker. ``end()`` must be called.
final class Machine {
  let world: SimulatedWorld
  let disk: SimulatedFileSystem
  let broker: Broker
  private let server: KafkaServer
  let amqp: AMQPServer
  private let workers: WorkerServer
  private static let address = SocketAddress(host: "127.0.0.1", port: 9092)
  private static let amqpAddress = SocketAddress(host: "127.0.0.1", port: 5672)
  private static let workerAddress = SocketAddress(host: "127.0.0.1", port: 9093)

  /// A machine over a disk with these files.
  /// - Throws: what keeps the broker from starting.
  init(_ files: [(path: String, bytes: [UInt8])] = []) throws(BrokerError) {
    world = SimulatedWorld(seed: 1)
    disk = SimulatedFileSystem(world: world, capacity: 64 << 20)
    write(files, to: disk)
    do throws(BrokerError) {
      var settings = BrokerSettings()
      try settings.set("group.min.session.timeout.ms", "1")
      broker = try Broker(
        log: smallLog, settings: settings, fileSystem: disk,
        reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
        background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
    } catch {
      world.tearDown()
      throw error
    }
    broker.queues.register(AMQPMessageFormat.shared)
    server = KafkaServer(broker: broker, logger: .silent)
    amqp = AMQPServer(broker: broker, logger: .silent, seed: 1)
    workers = WorkerServer(broker: broker, logger: .silent)
    do throws(IOError) {
      _ = try server.listen(Machine.address)
      _ = try amqp.listen(Machine.amqpAddress)
      try workers.listen(Machine.workerAddress)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  func connect() -> SimulatedClientConnection { world.network.connect(to: Machine.address) }

  func connectByAMQP() -> SimulatedClientConnection { world.network.connect(to: Machine.amqpAddress) }

  func connectAsWorker() -> SimulatedClientConnection { world.network.connect(to: Machine.workerAddress) }

  func end() { world.tearDown() }
}

extension SimulatedClientConnection {
  /// Sends a request as a client would.
  func send<Request: KafkaRequest>(_ request: Request, version: Int16, _ correlation: Int32) {
    for piece in KafkaFrame.request(request, version: version, correlationID: correlation, clientID: "fuzz") {
      write(piece)
    }
  }
}

/// A produce request of one batch for partition 0 of `topic`.
func produceRequest(_ topic: String, records: Int, size: Int) -> ProduceRequest {
  var builder = RecordBatchBuilder()
  for number in 0..<records {
    let value = Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: number), count: size))
    builder.append(Record(key: Bytes("k\(number)"), value: value, timestamp: Timestamp(milliseconds: 1)))
  }
  var request = ProduceRequest(acks: -1, timeoutMilliseconds: 1000)
  request.topicData = [.init(name: topic, partitionData: [.init(index: 0, records: builder.finish())])]
  return request
}
