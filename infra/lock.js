// One set-up at a time in a folder: a second one waits for the first and then finds everything done.
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { checkInterrupted, inRoot } from "./workspace.js"

const path = inRoot(".chorus/setup.lock")

/** Takes the lock and returns how to release it. `waiting` is told, once, which process it waits for. */
export const lock = async (waiting) => {
  mkdirSync(inRoot(".chorus"), { recursive: true })
  for (let told = false; !take(); ) {
    checkInterrupted()
    const owner = ownerOf(path)
    if (owner !== undefined && !alive(owner)) {
      removeStale(owner)
      continue
    }
    if (!told && owner !== undefined) waiting(owner, path)
    told ||= owner !== undefined
    await new Promise((resolve) => setTimeout(resolve, 200)) // other processes cannot tell us; so we look
  }
  return () => rmSync(path, { force: true })
}

const take = () => {
  const own = `${path}.${process.pid}`
  writeFileSync(own, `${process.pid}\n`)
  try {
    linkSync(own, path) // unlike a write, a link appears whole, and only where nothing is
    return true
  } catch (error) {
    if (error.code === "EEXIST") return false
    throw error
  } finally {
    rmSync(own, { force: true })
  }
}

const ownerOf = (file) => {
  try {
    return Number(readFileSync(file, "utf8"))
  } catch {
    return undefined // released in this moment
  }
}

const alive = (pid) => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === "EPERM"
  }
}

/** Another process may clear the same lock and take it anew between our look and our move: then it gets it back. */
const removeStale = (owner) => {
  const moved = `${path}.stale.${process.pid}`
  try {
    renameSync(path, moved)
    if (ownerOf(moved) !== owner) linkSync(moved, path)
  } catch (error) {
    if (error.code !== "ENOENT" && error.code !== "EEXIST") throw error
  } finally {
    rmSync(moved, { force: true })
  }
}
