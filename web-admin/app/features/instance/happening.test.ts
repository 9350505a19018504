import { describe, expect, it } from 'vitest'
import { phasesIn } from './happening'

describe('phasesIn', () => {
  it('finds where an instance came from and where it went', () => {
    expect(phasesIn('crash_loop → running')).toEqual(['crash_loop', 'running'])
  })

  it('finds nothing in other sentences', () => {
    expect(phasesIn('restart asked for')).toBeNull()
  })
})
