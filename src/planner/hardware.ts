// Hardware as the cost model sees it: devices that compute and links that carry messages. Rates are what kernels of this
// kind reach, not what a data sheet promises; each says where it comes from.

/** What one rank computes with. */
export interface Device {
  readonly name: string
  readonly flops: number // a second, of matrix products
  readonly bytesPerSecond: number // of weights and KV
  readonly memoryBytes: number
  readonly launchSeconds: number // of each kernel, whatever its size: the launch, and the gap before the next one
  readonly kernels: Kernels
}

/** Kernels of one block: launches are most of a small model's time on a large device, so their number counts. */
export interface Kernels {
  readonly attention: number
  readonly mlp: number
  readonly head: number
}

/** From one rank to another, once the sender has something to say. */
export interface Link {
  readonly latencySeconds: number // from the end of a stretch on the sender to the beginning of the next on the receiver, of an empty message
  readonly bytesPerSecond: number
  readonly multicast: boolean // one message reaches all receivers for the price of one, as a message bus does it
}

/** Devices that share a case. Ranks are numbered through all machines. */
export interface Machine {
  readonly devices: ReadonlyArray<Device>
  readonly within: Link // each device has its own port
}

export interface Hardware {
  readonly name: string
  readonly machines: ReadonlyArray<Machine>
  readonly between: Link // the devices of a machine share its port
  readonly activationBytes: number // of each value that is sent
}

export const devicesOf = ({ machines }: Hardware): ReadonlyArray<Device> => machines.flatMap(({ devices }) => devices)

/** The machine of each rank. */
export const machineOf = ({ machines }: Hardware): ReadonlyArray<number> =>
  machines.flatMap(({ devices }, machine) => devices.map(() => machine))

const repeat = <A>(count: number, value: A): ReadonlyArray<A> => Array.from({ length: count }, () => value)

/** The same hardware with this many devices, each in a machine of its own or all in one. */
export const withDevices = (hardware: Hardware, count: number): Hardware => {
  const [first] = hardware.machines
  const device = first?.devices[0]
  if (first === undefined || device === undefined) return hardware
  const machines =
    hardware.machines.length === 1
      ? [{ ...first, devices: repeat(count, device) }]
      : repeat(count, { ...first, devices: [device] })
  return { ...hardware, machines }
}

// Kernels captured in a graph: norm, q/k/v, rotation, KV, attention, output and sum; norm, gate/up, product, down and sum.
const CAPTURED: Kernels = { attention: 7, mlp: 4, head: 3 }
// The same in a framework that launches every operation by itself, as the paper's measurements do: rotations, masks and norms
// fall into many small ones.
const EAGER: Kernels = { attention: 24, mlp: 9, head: 6 }

const GIB = 2 ** 30

const A100: Device = {
  name: "A100 80 GB",
  flops: 0.6 * 312e12, // bf16
  bytesPerSecond: 0.8 * 2.039e12,
  memoryBytes: 80 * GIB,
  launchSeconds: 2.5e-6,
  kernels: CAPTURED,
}

const H100: Device = {
  name: "H100 80 GB",
  flops: 0.6 * 989e12,
  bytesPerSecond: 0.8 * 3.35e12,
  memoryBytes: 80 * GIB,
  launchSeconds: 2e-6,
  kernels: CAPTURED,
}

/** Eight processor cores, two channels of DDR5-5600. A kernel costs a barrier of the threads. */
const MINI_PC: Device = {
  name: "mini-PC",
  flops: 1.2e12, // 4-bit weights by 8-bit activations: two such cores reach 3e11 (bench/RESULTS.md, eight rows)
  bytesPerSecond: 0.7 * 89.6e9,
  memoryBytes: 64 * GIB,
  launchSeconds: 3e-6,
  kernels: CAPTURED,
}

// A message of a few KiB between kernels on different GPUs of a switch: NCCL's small all-reduces take 10 to 20 µs, ones
// written for them 6 to 10.
const NVLINK_3: Link = { latencySeconds: 8e-6, bytesPerSecond: 0.8 * 300e9, multicast: false }
const NVLINK_4: Link = { latencySeconds: 7e-6, bytesPerSecond: 0.8 * 450e9, multicast: false }
// TCP without delay between processes that spin before they sleep.
const ETHERNET_10G: Link = { latencySeconds: 35e-6, bytesPerSecond: 0.94 * 1.25e9, multicast: false }
const ETHERNET_2_5G: Link = { latencySeconds: 60e-6, bytesPerSecond: 0.94 * 0.3125e9, multicast: false }

export const A100_8: Hardware = {
  name: "8 A100, NVLink",
  machines: [{ devices: repeat(8, A100), within: NVLINK_3 }],
  ...{ between: ETHERNET_10G, activationBytes: 2 },
}

/** As a framework without captured graphs drives them: the paper's setting. */
export const A100_8_EAGER: Hardware = {
  ...A100_8,
  name: "8 A100, NVLink, eager",
  machines: [
    {
      devices: repeat(8, { ...A100, launchSeconds: 8e-6, kernels: EAGER }),
      within: { ...NVLINK_3, latencySeconds: 18e-6 },
    },
  ],
}

export const H100_8: Hardware = {
  name: "8 H100, NVLink",
  machines: [{ devices: repeat(8, H100), within: NVLINK_4 }],
  ...{ between: ETHERNET_10G, activationBytes: 2 },
}

/** Up to 64 devices behind one switch. */
export const SWITCHED_H100: Hardware = { ...H100_8, name: "H100 behind one NVLink switch" }

export const TWO_MACHINES: Hardware = {
  name: "2 machines of 4 A100, 10 Gb Ethernet",
  machines: repeat(2, { devices: repeat(4, A100), within: NVLINK_3 }),
  ...{ between: ETHERNET_10G, activationBytes: 2 },
}

export const MINI_PCS: Hardware = {
  name: "4 mini-PCs, 2.5 Gb Ethernet",
  machines: repeat(4, { devices: [MINI_PC], within: ETHERNET_2_5G }),
  ...{ between: ETHERNET_2_5G, activationBytes: 2 },
}
