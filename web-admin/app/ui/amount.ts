/** A number as people read it; bytes in the unit that leaves few digits. */

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const
const STEP = 1_024

export function describeAmount(amount: number, isBytes: boolean, language: string): string {
  if (!isBytes) return new Intl.NumberFormat(language).format(amount)
  const power = amount < 1 ? 0 : Math.min(Math.floor(Math.log(amount) / Math.log(STEP)), UNITS.length - 1)
  return new Intl.NumberFormat(language, {
    style: 'unit',
    unit: UNITS[power] ?? 'byte',
    unitDisplay: 'short',
    maximumFractionDigits: 1,
  }).format(amount / STEP ** power)
}
