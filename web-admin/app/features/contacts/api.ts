/** Who writes to the tenant: what members know of them, and whom the bots do not hear. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Contact = Schemas['ContactDetailOut']
export type ContactNote = Schemas['NoteOut']
export type Block = Schemas['EntryOut']
export type Tag = Schemas['TagOut']
export type TagOwner = 'contacts' | 'conversations'

const one = (id: string) => ({ contact_id: id })

export function getContact(id: string, signal: AbortSignal): Promise<Contact> {
  return api.get('/contacts/{contact_id}', { path: one(id), signal })
}

/** What is left out stays, null removes. */
export async function changeContact(id: string, change: Schemas['ContactPatch']): Promise<void> {
  await api.patch('/contacts/{contact_id}', { path: one(id), body: change })
}

export function listContactNotes(id: string, cursor: string | null, signal: AbortSignal): Promise<Page<ContactNote>> {
  return api.get('/contacts/{contact_id}/notes', { path: one(id), query: { cursor }, signal })
}

export async function addContactNote(id: string, text: string): Promise<void> {
  await api.post('/contacts/{contact_id}/notes', { path: one(id), body: { text } })
}

export async function wear(owner: TagOwner, id: string, tagId: string): Promise<void> {
  if (owner === 'contacts') {
    await api.put('/contacts/{contact_id}/tags/{tag_id}', { path: { contact_id: id, tag_id: tagId } })
  } else {
    await api.put('/conversations/{conversation_id}/tags/{tag_id}', { path: { conversation_id: id, tag_id: tagId } })
  }
}

export async function takeOff(owner: TagOwner, id: string, tagId: string): Promise<void> {
  if (owner === 'contacts') {
    await api.delete('/contacts/{contact_id}/tags/{tag_id}', { path: { contact_id: id, tag_id: tagId } })
  } else {
    await api.delete('/conversations/{conversation_id}/tags/{tag_id}', { path: { conversation_id: id, tag_id: tagId } })
  }
}

/** What keeps a contact from being heard now. */
export async function listBlocks(contact: Contact, signal: AbortSignal): Promise<Block[]> {
  const query = { platform_id: contact.platform_id, expired: false, limit: 200 }
  const { items } = await api.get('/blacklist', { query, signal })
  return items.filter(
    ({ kind, channel_id: channel }) =>
      (kind === null || kind === contact.channel_kind) && (channel === null || channel === contact.channel_id),
  )
}

export async function block(entry: Schemas['EntryIn']): Promise<void> {
  await api.post('/blacklist', { body: entry })
}

export async function unblock(entryId: string): Promise<void> {
  await api.delete('/blacklist/{entry_id}', { path: { entry_id: entryId } })
}
