import { describe, expect, it } from 'vitest'
import type { Instance } from '../../api/types'
import { filtered, phasesOf } from './filter'

const instance = (name: string, phase: string, generation = 1, observed = 1) =>
  ({ id: name, tenant_id: 't', name, phase, generation, observed_generation: observed }) as Instance
const fleet = [instance('Desk', 'running'), instance('Shop', 'crash_loop', 3, 2), instance('Lab', 'running', 2, 1)]
const names = (filter: object) =>
  filtered(fleet, { phase: '', isDrifted: false, text: '', ...filter }).map(({ name }) => name)

describe('filtered', () => {
  it('shows all without a wish', () => {
    expect(names({})).toEqual(['Desk', 'Shop', 'Lab'])
  })

  it('takes a phase, drift and a text together', () => {
    expect(names({ phase: 'running' })).toEqual(['Desk', 'Lab'])
    expect(names({ isDrifted: true })).toEqual(['Shop', 'Lab'])
    expect(names({ phase: 'running', isDrifted: true, text: ' lA ' })).toEqual(['Lab'])
  })
})

describe('phasesOf', () => {
  it('counts, most first', () => {
    expect(phasesOf(fleet)).toEqual([
      { phase: 'running', count: 2 },
      { phase: 'crash_loop', count: 1 },
    ])
  })
})
