/** Short names for the answers that several features read, all out of the generated schema. */

import type { Schemas } from './paths'

export interface Page<T> {
  items: T[]
  next?: string | null
}

export type Me = Schemas['MeOut']
export type Tenant = Schemas['TenantOut']
export type Condition = Schemas['ConditionOut']
export type Instance = Schemas['InstanceOut']
export type Channel = Schemas['ChannelOut']
export type Conversation = Schemas['ConversationOut']
export type Delivery = Schemas['DeliveryOut']
export type Owner = Schemas['Owner']

type AnySegment =
  | Schemas['Text']
  | Schemas['Markdown']
  | Schemas['Image']
  | Schemas['Voice']
  | Schemas['Video']
  | Schemas['File']
  | Schemas['At']
  | Schemas['Reply']
  | Schemas['Face']
  | Schemas['Sticker']
  | Schemas['Location']
  | Schemas['Link']
  | Schemas['Card']
  | Schemas['BusinessCard']
  | Schemas['Forward']
  | Schemas['Unsupported']
/** With links to the bytes, which last a while. */
export type Segment = AnySegment & { url?: string; thumb_url?: string; playback?: Playback }
/** How far a voice is that no browser plays as it came. */
export interface Playback {
  state: 'pending' | 'ready' | 'failed'
  error_class: string | null
  original_url: string
}
/** The generator loses the segments' `type`, which tells them apart. */
export type Message = Omit<Schemas['MessageOut'], 'segments'> & { segments: Segment[] }
export type Answer = Schemas['AnswerItem']
