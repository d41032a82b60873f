// The program: joins the server whose data directory is named, and runs the job until it is stopped.

import Glibc
import Millrace
import PageViewsJob

@main
enum Program {
  static func main() async {
    guard CommandLine.arguments.count == 2 else {
      say("usage: page-views DIRECTORY   the directory of `millrace serve --data DIRECTORY`")
      exit(64)
    }
    let worker = JobWorker(job, directory: CommandLine.arguments[1])
    do throws(JobError) {
      try await worker.run()
    } catch {
      say("page-views: \(error)")
      exit(1)
    }
  }

  /// Writes a line to standard error.
  private static func say(_ text: String) {
    let line = text + "\n"
    _ = write(STDERR_FILENO, line, line.utf8.count)
  }
}
