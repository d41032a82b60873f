// CrashWorker: the word count as a worker of a server, for worker_crash.py, which kills both.
//
//   CrashWorker DIRECTORY
//
// Writes `running` once the job runs. Ends with 3 when another worker has taken over, 4 when an operator has stopped the job,
// 1 for any other error.

import Glibc
import Millrace

enum CrashWorker {
  static func main() async {
    guard CommandLine.arguments.count == 2 else {
      say("usage: CrashWorker DIRECTORY\n", to: STDERR_FILENO)
      exit(64)
    }
    // Many small steps, so that there is always one to be killed in.
    var options = JobOptions()
    options.readBytes = 16 << 10
    options.stepBytes = 32 << 10
    options.idleWait = .milliseconds(100)
    let worker = JobWorker(WordCount.job(), directory: CommandLine.arguments[1], options: options)
    Task {
      while worker.state != .running { try await Task.sleep(for: .milliseconds(2)) }
      say("running\n", to: STDOUT_FILENO)
    }
    do throws(JobError) {
      try await worker.run()
    } catch {
      say("\(error)\n", to: STDERR_FILENO)
      switch error.code {
      case .fenced: exit(3)
      case .stopped: exit(4)
      default: exit(1)
      }
    }
  }

  private static func say(_ text: String, to descriptor: Int32) {
    // Nobody can be told when the reader is gone.
    _ = write(descriptor, text, text.utf8.count)
  }
}
