// The Python environment of the tests' clients: infra/python.js makes it once and says where it is.
import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"

export const pythonEnvironment = async (): Promise<string> => {
  const script = join(import.meta.dirname, "../../infra/python.js")
  const { stdout } = await promisify(execFile)(process.execPath, [script])
  return stdout.trim()
}
