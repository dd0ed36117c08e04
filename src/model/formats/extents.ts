// Where tensors lie in a file, whatever its format.
import type { TensorSource } from "../../../native/index.ts"
import type { FileCursor } from "./fileCursor.ts"

/** Throws unless every tensor ends within the file and no two share bytes or a name. */
export const checkExtents = (cursor: FileCursor, tensors: ReadonlyArray<TensorSource>): void => {
  let previous: TensorSource | undefined
  const names = new Set<string>()
  for (const tensor of tensors.toSorted((a, b) => a.offset - b.offset)) {
    const end = tensor.offset + tensor.bytes
    if (end > cursor.size) {
      throw cursor.corrupt(`tensor ${tensor.name} ends at byte ${end}, the file has ${cursor.size}`)
    }
    if (previous !== undefined && tensor.offset < previous.offset + previous.bytes) {
      throw cursor.corrupt(`tensors ${previous.name} and ${tensor.name} overlap`)
    }
    if (names.has(tensor.name)) throw cursor.corrupt(`tensor ${tensor.name} is there twice`)
    names.add(tensor.name)
    previous = tensor
  }
}
