import { describe, expect, it } from 'vitest'
import type { SignOnSettings } from './api'
import { domainsOf, draftFrom, needsSecret, problemsOf, settingsFrom } from './draft'

const kept: SignOnSettings = {
  issuer: 'https://login.example.com',
  client_id: 'botyard',
  domains: ['example.com', 'shop.example.com'],
  first_sign_on: 'viewer',
  required: true,
  created_at: '',
  updated_at: '',
}

describe('the draft of sign-on', () => {
  it('is sent as it was read, without the secret that is kept', () => {
    const draft = draftFrom(kept)
    expect(problemsOf(draft, kept)).toEqual([])
    expect(settingsFrom(draft)).toEqual({
      issuer: 'https://login.example.com',
      client_id: 'botyard',
      client_secret: null,
      domains: ['example.com', 'shop.example.com'],
      first_sign_on: 'viewer',
      required: true,
    })
  })

  it('asks for everything at first', () => {
    expect(problemsOf(draftFrom(null), null)).toEqual(['issuer', 'client', 'secret', 'domains'])
  })

  it('asks for the secret of another provider', () => {
    const draft = { ...draftFrom(kept), issuer: 'https://other.example.com' }
    expect(needsSecret(draft, kept)).toBe(true)
    expect(problemsOf(draft, kept)).toEqual(['secret'])
    expect(problemsOf({ ...draft, secret: 'x' }, kept)).toEqual([])
  })

  it('reads domains as people write them, each once', () => {
    const draft = { ...draftFrom(kept), domains: '@Example.com, example.com\nshop.example.com；' }
    expect(domainsOf(draft)).toEqual(['example.com', 'shop.example.com'])
    expect(problemsOf({ ...draft, domains: 'example' }, kept)).toEqual(['domains'])
    expect(problemsOf({ ...draft, domains: ' ' }, kept)).toEqual(['domains'])
  })
})
