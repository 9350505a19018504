/** How the tenant's people sign in through their company's own provider. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'

export type SignOn = Schemas['SignOnOut']
export type SignOnSettings = NonNullable<SignOn['settings']>
export type SignOnIn = Schemas['SignOnIn']
export type SignOnCheck = Schemas['SignOnCheckOut']

export function getSignOn(signal: AbortSignal): Promise<SignOn> {
  return api.get('/sign-on', { signal })
}

export async function saveSignOn(settings: SignOnIn): Promise<void> {
  await api.put('/sign-on', { body: settings })
}

export async function removeSignOn(): Promise<void> {
  await api.delete('/sign-on')
}

/** Reads what the provider says of itself; nothing is saved. */
export function checkSignOn(issuer: string): Promise<SignOnCheck> {
  return api.post('/sign-on/check', { body: { issuer } })
}
