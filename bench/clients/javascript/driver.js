// What the drivers in JavaScript share; the same as python/driver.py. Plain JavaScript, so that the sources can be checked
// without the clients being installed.
import { createInterface } from "node:readline"

export const asked = JSON.parse(process.argv[2])
export const messages = [{ role: "user", content: asked.message }]

const tell = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`)

/** Says which version of the client this is and what it can do, then does what is asked, one ability after another. */
export const serve = async (version, abilities) => {
  tell({ version, abilities: Object.keys(abilities) })
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      tell({ facts: await abilities[line]() })
    } catch (error) {
      tell({ error: String(error?.stack ?? error) })
    }
  }
}

export const collect = async (stream) => {
  const all = []
  for await (const one of stream) all.push(one)
  return all
}

/** Asks for what is refused: the client's own type of error, with what it says of it. */
export const refused = async (type, ask) => {
  try {
    await ask()
  } catch (error) {
    if (!type.isInstance?.(error) && !(error instanceof type)) throw error
    return { status: error.status ?? error.statusCode, ...(error.param === undefined ? {} : { param: error.param }) }
  }
  throw new Error("it was not refused")
}
