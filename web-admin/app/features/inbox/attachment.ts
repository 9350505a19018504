/** A file for a reply: room is reserved, then its bytes go to the link. */

import { api } from '../../api/api'
import { problemOf, unreachable } from '../../api/problem'
import type { Schemas } from '../../api/paths'

type Sent = Schemas['MessageIn']['segments'][number]

export interface Attachment {
  mediaId: string
  name: string
  contentType: string
}

export async function upload(file: File): Promise<Attachment> {
  const room = await api.post('/media', { body: { size: file.size, name: file.name } })
  const response = await fetch(room.upload_url, {
    method: 'PUT',
    body: file,
    headers: { 'content-type': 'application/octet-stream' },
  }).catch(() => {
    throw unreachable()
  })
  if (!response.ok) throw await problemOf(response)
  const { media_id: mediaId, name, content_type: contentType } = (await response.json()) as Schemas['MediaOut']
  return { mediaId, name, contentType }
}

/** As what a reply carries it; whatever is neither picture nor film is a file. */
export function segmentOf({ mediaId, name, contentType }: Attachment): Sent {
  const [family] = contentType.split('/')
  const type = family === 'image' || family === 'video' ? family : 'file'
  return { type, ref: { via: 'media', id: mediaId }, name }
}
