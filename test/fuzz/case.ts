// The `index`th file of a run: a function of seed, index and corpus alone.
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { GGUF_FILE, oddModel, type Sound } from "./corpus.ts"
import { mutate } from "./mutate.ts"
import { Random } from "./random.ts"

/** The large ones are taken seldom: what is in them is in the small ones too. */
const chosen = (random: Random, sounds: ReadonlyArray<Sound>): Sound => {
  const one = random.pick(sounds)
  return sizeOf(one) < 2 ** 20 || random.chance(0.1) ? one : chosen(random, sounds)
}

const sizeOf = ({ files }: Sound): number => [...files.values()].reduce((sum, bytes) => sum + bytes.length, 0)

export interface Case {
  readonly sound: Sound
  readonly path: string // to open
  readonly random: Random // for what is still to be drawn
}

/** How many of the models are of odd sizes; half of those are not mutated besides. */
const ODD = 0.15

/** Models below a folder; a sound model is written once, and of a mutated one the one file that differs. */
export class Cases {
  readonly #folder: string
  readonly #sounds: ReadonlyArray<Sound>
  #restore: () => void = () => {}

  constructor(folder: string, sounds: ReadonlyArray<Sound>) {
    this.#folder = folder
    this.#sounds = sounds
    for (const [index, sound] of sounds.entries()) writeModel(join(folder, String(index)), sound)
  }

  /** Writes it, in place of the one before. */
  write(seed: number, index: number): Case {
    this.#restore()
    const random = new Random(seed, index)
    const odd = random.chance(ODD)
    const sound = odd ? oddModel(random) : chosen(random, this.#sounds)
    const folder = join(this.#folder, odd ? "odd" : String(this.#sounds.indexOf(sound)))
    if (odd) {
      rmSync(folder, { recursive: true, force: true })
      writeModel(folder, sound)
    }
    if (!odd || random.chance(0.5)) {
      const { file, bytes } = mutate(random, sound)
      const target = join(folder, file)
      rmSync(target, { force: true }) // a process that maps the old one keeps it
      if (bytes !== null) writeFileSync(target, bytes)
      this.#restore = () => {
        rmSync(target, { force: true })
        if (!odd) writeFileSync(target, sound.files.get(file) ?? "")
      }
    }
    return { sound, path: sound.loader === "gguf" ? join(folder, GGUF_FILE) : folder, random }
  }
}

const writeModel = (folder: string, { files }: Sound): void => {
  mkdirSync(folder, { recursive: true })
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes)
}
