// MillraceCommand: the program's entry: reads the arguments of `serve` and runs the server.
import Glibc
import MillraceBase
import MillraceIO

/// The program.
public enum MillraceCommand {
  /// Runs the command that the arguments name, and exits.
  public static func main() {
    let arguments = CommandLine.arguments
    var configuration = ServerConfiguration(directory: "data")
    var index = 2
    while index + 1 < arguments.count {
      switch arguments[index] {
      case "--data": configuration.directory = arguments[index + 1]
      case "--kafka": configuration.kafkaPort = UInt16(arguments[index + 1]) ?? 9092
      case "--host": configuration.hosts = [arguments[index + 1]]
      default: break
      }
      index += 2
    }
    configuration.recording = getenv("MILLRACE_RECORD_IO").map { String(cString: $0) }
    do {
      if arguments.count > 1, arguments[1] == "demo" {
        var demo = DemoConfiguration(server: configuration)
        demo.repeats = arguments.contains("--repeat")
        if let at = arguments.firstIndex(of: "--input") {
          demo.inputs = Array(arguments[(at + 1)...].prefix { !$0.hasPrefix("--") })
        }
        exit(try Demo(demo).run())
      }
      let server = try ServerProcess(configuration)
      server.announce()
      exit(server.run())
    } catch let error as ServerStartError {
      ServerProcess.print("\(error)\n")
      exit(error.exitStatus)
    } catch {
      ServerProcess.print("\(error)\n")
      exit(1)
    }
  }
}
