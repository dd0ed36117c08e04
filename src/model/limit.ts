// A time limit for code that a model's files decide about: templates, and the expressions that cut a text into tokens. It
// blocks its process meanwhile, so where others wait for that process it belongs into one of its own.
import { createContext, Script } from "node:vm"

const context = createContext({ job: () => {} })
const script = new Script("job()")

/** Gives what `job` gives, or null where it took longer: V8 then stops it wherever it is, in a regular expression too. */
export const within = <A extends object | string>(millis: number, job: () => A): A | null => {
  let result: A | null = null
  context.job = () => {
    result = job()
  }
  try {
    script.runInContext(context, { timeout: millis })
    return result
  } catch (error) {
    if (isTimeout(error)) return null
    throw error
  } finally {
    context.job = () => {}
  }
}

const isTimeout = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "code" in error && error.code === "ERR_SCRIPT_EXECUTION_TIMEOUT"
