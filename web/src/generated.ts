// Made by `npm run types` from docs/graphql/portal.graphql and src/operations. Do not edit.
import type { Document } from './lib/graphql';
export type Maybe<T> = T | null;
export type InputMaybe<T> = Maybe<T>;
export type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
export type MakeOptional<T, K extends keyof T> = Omit<T, K> & { [SubKey in K]?: Maybe<T[SubKey]> };
export type MakeMaybe<T, K extends keyof T> = Omit<T, K> & { [SubKey in K]: Maybe<T[SubKey]> };
export type MakeEmpty<T extends { [key: string]: unknown }, K extends keyof T> = { [_ in K]?: never };
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
/** All built-in and custom scalars, mapped to their actual values */
export type Scalars = {
  ID: { input: string; output: string; }
  String: { input: string; output: string; }
  Boolean: { input: boolean; output: boolean; }
  Int: { input: number; output: number; }
  Float: { input: number; output: number; }
  /** Date with time (isoformat) */
  DateTime: { input: string; output: string; }
  /** The `JSON` scalar type represents JSON values as specified by [ECMA-404](https://ecma-international.org/wp-content/uploads/ECMA-404_2nd_edition_december_2017.pdf). */
  JSON: { input: unknown; output: unknown; }
};

/** What became of a share. */
export type EventAction =
  | 'add'
  | 'update'
  | 'remove'
  | 'connect';

/** What kinds of events there are. Of all but two nothing is kept here. */
export type EventType =
  | 'DEVICE_SHARE'
  | 'DEVICE_CONNECT'
  | 'DEVICE_STATE'
  | 'AUTH_LOGIN'
  | 'AUTH_LOGIN_ATTEMPT'
  | 'AUTH_PASSWORD_CHANGE'
  | 'AUTH_PASSWORD_RESET'
  | 'AUTH_PASSWORD_RESET_CONFIRMED'
  | 'AUTH_PHONE_CHANGE'
  | 'AUTH_MFA_ENABLED'
  | 'AUTH_MFA_DISABLED';

/** What to do with an entry of the inbox. */
export type InboxMark =
  | 'READ'
  | 'UNREAD'
  | 'LATER';

/** Chooses by a list of values. */
export type ListFilter = {
  readonly values: ReadonlyArray<Scalars['String']['input']>;
  readonly operator?: InputMaybe<ListFilterOperator>;
};

/** How the values of a list filter are joined. */
export type ListFilterOperator =
  | 'ALL'
  | 'ANY';

/** A kind of notice on a way, and whether it is wanted. */
export type NoticePreferenceInput = {
  readonly kind: Scalars['String']['input'];
  readonly channel: Scalars['String']['input'];
  readonly wanted: Scalars['Boolean']['input'];
};

/** What somebody may do with a device as a whole. */
export type RolePermission =
  | 'VIEW'
  | 'CONNECT'
  | 'SCRIPTING'
  | 'MANAGE'
  | 'ADMIN';

/** Permissions on one service. */
export type ServicePermissionsInput = {
  readonly serviceId: Scalars['String']['input'];
  readonly permissions?: InputMaybe<ReadonlyArray<SharePermission>>;
};

/** One service of a share and what is to become of it. */
export type ServiceSharingOptions = {
  readonly serviceId: Scalars['String']['input'];
  readonly action?: InputMaybe<SharingAction>;
  /** With ADD: what may be done on it. Absent: the call's. Not in remote.it's schema. */
  readonly permissions?: InputMaybe<ReadonlyArray<SharePermission>>;
};

/** What became of one device with one recipient. */
export type ShareOutcome =
  | 'REQUESTED'
  | 'ACCEPTED'
  | 'CHANGED'
  | 'RESENT'
  | 'REJECTED'
  | 'LEFT'
  | 'REVOKED'
  | 'EXPIRED'
  | 'UNCHANGED'
  | 'REFUSED';

/** One function of a device. */
export type SharePermission =
  | 'CONNECT'
  | 'LIVE_VIEW'
  | 'PLAYBACK'
  | 'TWO_WAY_AUDIO'
  | 'PTZ'
  | 'ALARM_NOTIFICATIONS'
  | 'ARM';

/** What to do with a share or with a service of it. */
export type SharingAction =
  | 'ADD'
  | 'REMOVE'
  | 'LEAVE';

/** The terms of a share, whole. */
export type TermsInput = {
  /** The services shared. Absent: every service, those added later included. */
  readonly services?: InputMaybe<ReadonlyArray<ServicePermissionsInput>>;
  /** When every service is shared: what may be done. Absent: all. */
  readonly permissions?: InputMaybe<ReadonlyArray<SharePermission>>;
  readonly scripting?: Scalars['Boolean']['input'];
  readonly startsAt?: InputMaybe<Scalars['DateTime']['input']>;
  readonly endsAt?: InputMaybe<Scalars['DateTime']['input']>;
};

export type AccessKeysQueryVariables = Exact<{ [key: string]: never; }>;


export type AccessKeysQuery = { readonly login: { readonly accessKeys: ReadonlyArray<{ readonly key: string, readonly enabled: boolean, readonly created: string, readonly lastUsed: string | null }> } | null };

export type CreateAccessKeyMutationVariables = Exact<{ [key: string]: never; }>;


export type CreateAccessKeyMutation = { readonly createAccessKey: { readonly key: string, readonly secret: string } };

export type UpdateAccessKeyMutationVariables = Exact<{
  key: Scalars['String']['input'];
  enabled: Scalars['Boolean']['input'];
}>;


export type UpdateAccessKeyMutation = { readonly updateAccessKey: { readonly key: string, readonly enabled: boolean } | null };

export type DeleteAccessKeyMutationVariables = Exact<{
  key: Scalars['String']['input'];
}>;


export type DeleteAccessKeyMutation = { readonly deleteAccessKey: boolean };

export type DeviceRowFragment = { readonly id: string, readonly name: string, readonly alias: string | null, readonly kind: string | null, readonly owned: boolean, readonly online: boolean, readonly lastReported: string | null, readonly beginsIn: number | null, readonly created: string | null, readonly scripting: boolean, readonly shareState: string, readonly owner: { readonly id: string, readonly name: string | null, readonly email: string | null }, readonly sharedWith: { readonly accepted: number, readonly invited: number, readonly first: ReadonlyArray<string> }, readonly services: ReadonlyArray<{ readonly id: string, readonly name: string, readonly protocol: string, readonly channel: number | null, readonly permissions: ReadonlyArray<string> }> };

export type MeQueryVariables = Exact<{ [key: string]: never; }>;


export type MeQuery = { readonly login: { readonly id: string, readonly name: string | null, readonly email: string | null } | null };

export type DevicePageQueryVariables = Exact<{
  from: Scalars['Int']['input'];
  size: Scalars['Int']['input'];
}>;


export type DevicePageQuery = { readonly login: { readonly devices: { readonly total: number, readonly hasMore: boolean, readonly items: ReadonlyArray<{ readonly id: string, readonly name: string, readonly alias: string | null, readonly kind: string | null, readonly owned: boolean, readonly online: boolean, readonly lastReported: string | null, readonly beginsIn: number | null, readonly created: string | null, readonly scripting: boolean, readonly shareState: string, readonly owner: { readonly id: string, readonly name: string | null, readonly email: string | null }, readonly sharedWith: { readonly accepted: number, readonly invited: number, readonly first: ReadonlyArray<string> }, readonly services: ReadonlyArray<{ readonly id: string, readonly name: string, readonly protocol: string, readonly channel: number | null, readonly permissions: ReadonlyArray<string> }> }> } } | null };

export type DevicesByIdQueryVariables = Exact<{
  ids: ReadonlyArray<Scalars['String']['input']>;
}>;


export type DevicesByIdQuery = { readonly login: { readonly device: ReadonlyArray<{ readonly id: string, readonly name: string, readonly alias: string | null, readonly kind: string | null, readonly owned: boolean, readonly online: boolean, readonly lastReported: string | null, readonly beginsIn: number | null, readonly created: string | null, readonly scripting: boolean, readonly shareState: string, readonly owner: { readonly id: string, readonly name: string | null, readonly email: string | null }, readonly sharedWith: { readonly accepted: number, readonly invited: number, readonly first: ReadonlyArray<string> }, readonly services: ReadonlyArray<{ readonly id: string, readonly name: string, readonly protocol: string, readonly channel: number | null, readonly permissions: ReadonlyArray<string> }> }> } | null };

export type RenameDeviceMutationVariables = Exact<{
  device: Scalars['String']['input'];
  name: Scalars['String']['input'];
}>;


export type RenameDeviceMutation = { readonly renameDevice: boolean };

export type SetAliasMutationVariables = Exact<{
  device: Scalars['String']['input'];
  alias: Scalars['String']['input'];
}>;


export type SetAliasMutation = { readonly setDeviceAlias: boolean };

export type ConnectMutationVariables = Exact<{
  service: Scalars['String']['input'];
}>;


export type ConnectMutation = { readonly connect: { readonly id: string, readonly host: string, readonly port: number, readonly url: string, readonly timeout: number } };

export type DisconnectMutationVariables = Exact<{
  connection: Scalars['String']['input'];
}>;


export type DisconnectMutation = { readonly disconnect: boolean };

export type OpenStreamMutationVariables = Exact<{
  service: Scalars['String']['input'];
}>;


export type OpenStreamMutation = { readonly openStream: { readonly urls: ReadonlyArray<string>, readonly webUrls: ReadonlyArray<string>, readonly expires: string } };

export type InvitationsQueryVariables = Exact<{ [key: string]: never; }>;


export type InvitationsQuery = { readonly login: { readonly invitations: ReadonlyArray<{ readonly id: string, readonly invitationVersion: number, readonly created: string | null, readonly scripting: boolean, readonly permissions: ReadonlyArray<string> | null, readonly startsAt: string | null, readonly endsAt: string | null, readonly expiresAt: string | null, readonly message: string | null, readonly device: { readonly id: string, readonly name: string }, readonly owner: { readonly id: string, readonly name: string | null, readonly email: string | null }, readonly services: ReadonlyArray<{ readonly id: string, readonly name: string | null, readonly permissions: ReadonlyArray<string> | null }> | null }>, readonly alwaysAccepted: ReadonlyArray<{ readonly ownerId: string, readonly name: string | null, readonly since: string }> } | null };

export type InvitedQueryVariables = Exact<{
  after?: InputMaybe<Scalars['String']['input']>;
}>;


export type InvitedQuery = { readonly login: { readonly inbox: { readonly next: string | null, readonly items: ReadonlyArray<{ readonly id: string, readonly kind: string, readonly shareId: string, readonly laterUntil: string | null }> } } | null };

export type PutOffMutationVariables = Exact<{
  ids: ReadonlyArray<Scalars['ID']['input']>;
  until: Scalars['DateTime']['input'];
}>;


export type PutOffMutation = { readonly markInbox: boolean };

export type AcceptMutationVariables = Exact<{
  device: Scalars['String']['input'];
  share: Scalars['String']['input'];
  version: Scalars['Int']['input'];
}>;


export type AcceptMutation = { readonly acceptInvitation: boolean };

export type RejectMutationVariables = Exact<{
  device: Scalars['String']['input'];
  share: Scalars['String']['input'];
}>;


export type RejectMutation = { readonly rejectInvitation: boolean };

export type AlwaysAcceptMutationVariables = Exact<{
  owner: Scalars['String']['input'];
  always: Scalars['Boolean']['input'];
}>;


export type AlwaysAcceptMutation = { readonly setAlwaysAccept: boolean };

export type NoticeFragment = { readonly id: string, readonly kind: string, readonly at: string, readonly read: boolean, readonly shareId: string, readonly deviceId: string, readonly deviceName: string | null, readonly sharerName: string | null, readonly recipient: string | null, readonly state: string, readonly open: boolean, readonly expiresAt: string | null };

export type NoticesQueryVariables = Exact<{
  after?: InputMaybe<Scalars['String']['input']>;
}>;


export type NoticesQuery = { readonly login: { readonly inbox: { readonly next: string | null, readonly items: ReadonlyArray<{ readonly id: string, readonly kind: string, readonly at: string, readonly read: boolean, readonly shareId: string, readonly deviceId: string, readonly deviceName: string | null, readonly sharerName: string | null, readonly recipient: string | null, readonly state: string, readonly open: boolean, readonly expiresAt: string | null }> } } | null };

export type UnreadNoticesQueryVariables = Exact<{ [key: string]: never; }>;


export type UnreadNoticesQuery = { readonly login: { readonly inbox: { readonly items: ReadonlyArray<{ readonly id: string, readonly kind: string, readonly at: string, readonly read: boolean, readonly shareId: string, readonly deviceId: string, readonly deviceName: string | null, readonly sharerName: string | null, readonly recipient: string | null, readonly state: string, readonly open: boolean, readonly expiresAt: string | null }> } } | null };

export type MarkNoticesMutationVariables = Exact<{
  ids: ReadonlyArray<Scalars['ID']['input']>;
  mark: InboxMark;
}>;


export type MarkNoticesMutation = { readonly markInbox: boolean };

export type NoticeSettingsQueryVariables = Exact<{ [key: string]: never; }>;


export type NoticeSettingsQuery = { readonly login: { readonly noticeSettings: { readonly language: string | null, readonly timeZone: string | null, readonly quietFrom: string | null, readonly quietUntil: string | null, readonly preferences: ReadonlyArray<{ readonly kind: string, readonly channel: string, readonly wanted: boolean }> } } | null };

export type SetNoticeSettingsMutationVariables = Exact<{
  language?: InputMaybe<Scalars['String']['input']>;
  timeZone?: InputMaybe<Scalars['String']['input']>;
  quietFrom?: InputMaybe<Scalars['String']['input']>;
  quietUntil?: InputMaybe<Scalars['String']['input']>;
  preferences?: InputMaybe<ReadonlyArray<NoticePreferenceInput>>;
}>;


export type SetNoticeSettingsMutation = { readonly setNoticeSettings: boolean };

export type PushKeyQueryVariables = Exact<{ [key: string]: never; }>;


export type PushKeyQuery = { readonly login: { readonly pushSubscriptions: { readonly webPushKey: string | null } } | null };

export type AddPushMutationVariables = Exact<{
  endpoint: Scalars['String']['input'];
  p256dh: Scalars['String']['input'];
  auth: Scalars['String']['input'];
}>;


export type AddPushMutation = { readonly addPushSubscription: string };

export type RemovePushMutationVariables = Exact<{
  id: Scalars['ID']['input'];
}>;


export type RemovePushMutation = { readonly removePushSubscription: boolean };

export type TermsFragment = { readonly permissions: ReadonlyArray<SharePermission> | null, readonly scripting: boolean, readonly startsAt: string | null, readonly endsAt: string | null, readonly services: ReadonlyArray<{ readonly serviceId: string, readonly permissions: ReadonlyArray<SharePermission> | null }> | null };

export type ContactsQueryVariables = Exact<{ [key: string]: never; }>;


export type ContactsQuery = { readonly login: { readonly contacts: ReadonlyArray<{ readonly id: string, readonly email: string | null, readonly phone: string | null, readonly name: string | null, readonly remark: string | null, readonly lastUsed: string | null }> } | null };

export type ExplainQueryVariables = Exact<{
  devices: ReadonlyArray<Scalars['String']['input']>;
  recipients: ReadonlyArray<Scalars['String']['input']>;
  services?: InputMaybe<ReadonlyArray<ServiceSharingOptions>>;
  permissions?: InputMaybe<ReadonlyArray<SharePermission>>;
  scripting?: InputMaybe<Scalars['Boolean']['input']>;
  startsAt?: InputMaybe<Scalars['DateTime']['input']>;
  endsAt?: InputMaybe<Scalars['DateTime']['input']>;
}>;


export type ExplainQuery = { readonly login: { readonly explainShare: { readonly wouldBeAccepted: boolean, readonly code: string | null, readonly message: string | null, readonly items: ReadonlyArray<{ readonly deviceId: string, readonly recipient: string | null, readonly outcome: ShareOutcome, readonly code: string | null, readonly message: string | null, readonly stateBefore: string | null, readonly after: ReadonlyArray<{ readonly serviceId: string, readonly permissions: ReadonlyArray<SharePermission> | null, readonly scripting: boolean }> }> } } | null };

export type ShareBulkMutationVariables = Exact<{
  operation: Scalars['String']['input'];
  devices: ReadonlyArray<Scalars['String']['input']>;
  recipients: ReadonlyArray<Scalars['String']['input']>;
  services?: InputMaybe<ReadonlyArray<ServiceSharingOptions>>;
  permissions?: InputMaybe<ReadonlyArray<SharePermission>>;
  scripting?: InputMaybe<Scalars['Boolean']['input']>;
  notify?: InputMaybe<Scalars['Boolean']['input']>;
  startsAt?: InputMaybe<Scalars['DateTime']['input']>;
  endsAt?: InputMaybe<Scalars['DateTime']['input']>;
  message?: InputMaybe<Scalars['String']['input']>;
}>;


export type ShareBulkMutation = { readonly shareBulk: { readonly items: ReadonlyArray<{ readonly deviceId: string, readonly recipient: string | null, readonly outcome: ShareOutcome, readonly code: string | null, readonly message: string | null }> } };

export type AddContactMutationVariables = Exact<{
  recipient: Scalars['String']['input'];
  remark?: InputMaybe<Scalars['String']['input']>;
}>;


export type AddContactMutation = { readonly addContact: string };

export type SetRemarkMutationVariables = Exact<{
  contact: Scalars['String']['input'];
  remark: Scalars['String']['input'];
}>;


export type SetRemarkMutation = { readonly setRemark: boolean };

export type CreateContactCodeMutationVariables = Exact<{ [key: string]: never; }>;


export type CreateContactCodeMutation = { readonly createContactCode: { readonly code: string, readonly endsAt: string, readonly svg: string } };

export type ScanContactCodeMutationVariables = Exact<{
  code: Scalars['String']['input'];
}>;


export type ScanContactCodeMutation = { readonly scanContactCode: { readonly id: string, readonly name: string | null } };

export type GivenSharesQueryVariables = Exact<{
  device: Scalars['String']['input'];
}>;


export type GivenSharesQuery = { readonly login: { readonly shares: ReadonlyArray<{ readonly id: string, readonly contactId: string, readonly address: string, readonly remark: string | null, readonly state: string, readonly version: number, readonly expiresAt: string | null, readonly message: string | null, readonly terms: { readonly permissions: ReadonlyArray<SharePermission> | null, readonly scripting: boolean, readonly startsAt: string | null, readonly endsAt: string | null, readonly services: ReadonlyArray<{ readonly serviceId: string, readonly permissions: ReadonlyArray<SharePermission> | null }> | null } }> } | null };

export type ChangeShareMutationVariables = Exact<{
  device: Scalars['String']['input'];
  share: Scalars['String']['input'];
  version: Scalars['Int']['input'];
  terms: TermsInput;
  message?: InputMaybe<Scalars['String']['input']>;
}>;


export type ChangeShareMutation = { readonly changeShare: boolean };

export type ExplainChangeQueryVariables = Exact<{
  device: Scalars['String']['input'];
  share: Scalars['String']['input'];
  version: Scalars['Int']['input'];
  terms: TermsInput;
}>;


export type ExplainChangeQuery = { readonly login: { readonly explainChangeShare: { readonly wouldBeAccepted: boolean, readonly code: string | null, readonly message: string | null, readonly items: ReadonlyArray<{ readonly outcome: ShareOutcome, readonly after: ReadonlyArray<{ readonly serviceId: string, readonly permissions: ReadonlyArray<SharePermission> | null, readonly scripting: boolean }> }> } } | null };

export type EndShareMutationVariables = Exact<{
  device: Scalars['String']['input'];
  recipients: ReadonlyArray<Scalars['String']['input']>;
}>;


export type EndShareMutation = { readonly share: boolean };

export type LeaveMutationVariables = Exact<{
  device: Scalars['String']['input'];
}>;


export type LeaveMutation = { readonly share: boolean };

export type ResendMutationVariables = Exact<{
  device: Scalars['String']['input'];
  share: Scalars['String']['input'];
}>;


export type ResendMutation = { readonly resendInvitation: boolean };

export type RemoveRecipientMutationVariables = Exact<{
  recipient: Scalars['String']['input'];
}>;


export type RemoveRecipientMutation = { readonly removeRecipient: boolean };

export type PastSharesQueryVariables = Exact<{
  given?: InputMaybe<Scalars['Boolean']['input']>;
  after?: InputMaybe<Scalars['String']['input']>;
}>;


export type PastSharesQuery = { readonly login: { readonly pastShares: { readonly next: string | null, readonly items: ReadonlyArray<{ readonly id: string, readonly deviceId: string, readonly deviceName: string | null, readonly given: boolean, readonly state: string, readonly email: string | null, readonly phone: string | null, readonly requested: string, readonly since: string, readonly expiresAt: string | null, readonly version: number, readonly owner: { readonly id: string, readonly name: string | null }, readonly recipient: { readonly id: string, readonly name: string | null, readonly email: string | null } | null, readonly terms: { readonly permissions: ReadonlyArray<SharePermission> | null, readonly scripting: boolean, readonly startsAt: string | null, readonly endsAt: string | null, readonly services: ReadonlyArray<{ readonly serviceId: string, readonly permissions: ReadonlyArray<SharePermission> | null }> | null } }> } } | null };

export type DeviceHistoryQueryVariables = Exact<{
  device: Scalars['String']['input'];
  after?: InputMaybe<Scalars['String']['input']>;
}>;


export type DeviceHistoryQuery = { readonly login: { readonly deviceHistory: { readonly next: string | null, readonly items: ReadonlyArray<{ readonly version: number, readonly kind: string, readonly at: string, readonly shareId: string, readonly email: string | null, readonly phone: string | null, readonly state: string, readonly reason: string | null, readonly recipient: { readonly id: string, readonly name: string | null, readonly email: string | null } | null, readonly terms: { readonly permissions: ReadonlyArray<SharePermission> | null, readonly scripting: boolean, readonly startsAt: string | null, readonly endsAt: string | null, readonly services: ReadonlyArray<{ readonly serviceId: string, readonly permissions: ReadonlyArray<SharePermission> | null }> | null } | null }> } } | null };

export type OpenConnectionsQueryVariables = Exact<{ [key: string]: never; }>;


export type OpenConnectionsQuery = { readonly login: { readonly connections: { readonly items: ReadonlyArray<{ readonly id: string, readonly deviceId: string | null, readonly serviceId: string, readonly permission: string, readonly opened: string | null, readonly inDoubt: boolean, readonly user: { readonly id: string, readonly name: string | null } }> } } | null };

export type DeviceConnectionsQueryVariables = Exact<{
  device: Scalars['String']['input'];
}>;


export type DeviceConnectionsQuery = { readonly login: { readonly connections: { readonly items: ReadonlyArray<{ readonly id: string, readonly serviceId: string, readonly permission: string, readonly opened: string | null, readonly ended: string | null, readonly outcome: string, readonly inDoubt: boolean, readonly reason: string | null, readonly user: { readonly id: string, readonly name: string | null } }> } } | null };

export const AccessKeys = "query AccessKeys {\n  login {\n    accessKeys {\n      key\n      enabled\n      created\n      lastUsed\n    }\n  }\n}" as Document<AccessKeysQuery, AccessKeysQueryVariables>;
export const CreateAccessKey = "mutation CreateAccessKey {\n  createAccessKey {\n    key\n    secret\n  }\n}" as Document<CreateAccessKeyMutation, CreateAccessKeyMutationVariables>;
export const UpdateAccessKey = "mutation UpdateAccessKey($key: String!, $enabled: Boolean!) {\n  updateAccessKey(key: $key, enabled: $enabled) {\n    key\n    enabled\n  }\n}" as Document<UpdateAccessKeyMutation, UpdateAccessKeyMutationVariables>;
export const DeleteAccessKey = "mutation DeleteAccessKey($key: String!) {\n  deleteAccessKey(key: $key)\n}" as Document<DeleteAccessKeyMutation, DeleteAccessKeyMutationVariables>;
export const Me = "query Me {\n  login {\n    id\n    name\n    email\n  }\n}" as Document<MeQuery, MeQueryVariables>;
export const DevicePage = "query DevicePage($from: Int!, $size: Int!) {\n  login {\n    devices(from: $from, size: $size, sort: \"name\") {\n      items {\n        ...DeviceRow\n      }\n      total\n      hasMore\n    }\n  }\n}\nfragment DeviceRow on Device {\n  id\n  name\n  alias\n  kind\n  owned\n  online\n  lastReported\n  beginsIn\n  created\n  scripting\n  shareState\n  owner {\n    id\n    name\n    email\n  }\n  sharedWith {\n    accepted\n    invited\n    first\n  }\n  services {\n    id\n    name\n    protocol\n    channel\n    permissions\n  }\n}" as Document<DevicePageQuery, DevicePageQueryVariables>;
export const DevicesById = "query DevicesById($ids: [String!]!) {\n  login {\n    device(id: $ids) {\n      ...DeviceRow\n    }\n  }\n}\nfragment DeviceRow on Device {\n  id\n  name\n  alias\n  kind\n  owned\n  online\n  lastReported\n  beginsIn\n  created\n  scripting\n  shareState\n  owner {\n    id\n    name\n    email\n  }\n  sharedWith {\n    accepted\n    invited\n    first\n  }\n  services {\n    id\n    name\n    protocol\n    channel\n    permissions\n  }\n}" as Document<DevicesByIdQuery, DevicesByIdQueryVariables>;
export const RenameDevice = "mutation RenameDevice($device: String!, $name: String!) {\n  renameDevice(deviceId: $device, name: $name)\n}" as Document<RenameDeviceMutation, RenameDeviceMutationVariables>;
export const SetAlias = "mutation SetAlias($device: String!, $alias: String!) {\n  setDeviceAlias(deviceId: $device, alias: $alias)\n}" as Document<SetAliasMutation, SetAliasMutationVariables>;
export const Connect = "mutation Connect($service: String!) {\n  connect(serviceId: $service) {\n    id\n    host\n    port\n    url\n    timeout\n  }\n}" as Document<ConnectMutation, ConnectMutationVariables>;
export const Disconnect = "mutation Disconnect($connection: String!) {\n  disconnect(connectionId: $connection)\n}" as Document<DisconnectMutation, DisconnectMutationVariables>;
export const OpenStream = "mutation OpenStream($service: String!) {\n  openStream(serviceId: $service) {\n    urls\n    webUrls\n    expires\n  }\n}" as Document<OpenStreamMutation, OpenStreamMutationVariables>;
export const Invitations = "query Invitations {\n  login {\n    invitations {\n      id\n      device {\n        id\n        name\n      }\n      owner {\n        id\n        name\n        email\n      }\n      invitationVersion\n      created\n      scripting\n      services {\n        id\n        name\n        permissions\n      }\n      permissions\n      startsAt\n      endsAt\n      expiresAt\n      message\n    }\n    alwaysAccepted {\n      ownerId\n      name\n      since\n    }\n  }\n}" as Document<InvitationsQuery, InvitationsQueryVariables>;
export const Invited = "query Invited($after: String) {\n  login {\n    inbox(size: 200, after: $after, putOff: true) {\n      items {\n        id\n        kind\n        shareId\n        laterUntil\n      }\n      next\n    }\n  }\n}" as Document<InvitedQuery, InvitedQueryVariables>;
export const PutOff = "mutation PutOff($ids: [ID!]!, $until: DateTime!) {\n  markInbox(ids: $ids, mark: LATER, until: $until)\n}" as Document<PutOffMutation, PutOffMutationVariables>;
export const Accept = "mutation Accept($device: String!, $share: String!, $version: Int!) {\n  acceptInvitation(\n    deviceId: $device\n    shareId: $share\n    invitationVersion: $version\n  )\n}" as Document<AcceptMutation, AcceptMutationVariables>;
export const Reject = "mutation Reject($device: String!, $share: String!) {\n  rejectInvitation(deviceId: $device, shareId: $share)\n}" as Document<RejectMutation, RejectMutationVariables>;
export const AlwaysAccept = "mutation AlwaysAccept($owner: String!, $always: Boolean!) {\n  setAlwaysAccept(ownerId: $owner, always: $always)\n}" as Document<AlwaysAcceptMutation, AlwaysAcceptMutationVariables>;
export const Notices = "query Notices($after: String) {\n  login {\n    inbox(size: 50, after: $after, putOff: true) {\n      items {\n        ...Notice\n      }\n      next\n    }\n  }\n}\nfragment Notice on InboxEntry {\n  id\n  kind\n  at\n  read\n  shareId\n  deviceId\n  deviceName\n  sharerName\n  recipient\n  state\n  open\n  expiresAt\n}" as Document<NoticesQuery, NoticesQueryVariables>;
export const UnreadNotices = "query UnreadNotices {\n  login {\n    inbox(size: 100, unread: true, putOff: true) {\n      items {\n        ...Notice\n      }\n    }\n  }\n}\nfragment Notice on InboxEntry {\n  id\n  kind\n  at\n  read\n  shareId\n  deviceId\n  deviceName\n  sharerName\n  recipient\n  state\n  open\n  expiresAt\n}" as Document<UnreadNoticesQuery, UnreadNoticesQueryVariables>;
export const MarkNotices = "mutation MarkNotices($ids: [ID!]!, $mark: InboxMark!) {\n  markInbox(ids: $ids, mark: $mark)\n}" as Document<MarkNoticesMutation, MarkNoticesMutationVariables>;
export const NoticeSettings = "query NoticeSettings {\n  login {\n    noticeSettings {\n      language\n      timeZone\n      quietFrom\n      quietUntil\n      preferences {\n        kind\n        channel\n        wanted\n      }\n    }\n  }\n}" as Document<NoticeSettingsQuery, NoticeSettingsQueryVariables>;
export const SetNoticeSettings = "mutation SetNoticeSettings($language: String, $timeZone: String, $quietFrom: String, $quietUntil: String, $preferences: [NoticePreferenceInput!]) {\n  setNoticeSettings(\n    language: $language\n    timeZone: $timeZone\n    quietFrom: $quietFrom\n    quietUntil: $quietUntil\n    preferences: $preferences\n  )\n}" as Document<SetNoticeSettingsMutation, SetNoticeSettingsMutationVariables>;
export const PushKey = "query PushKey {\n  login {\n    pushSubscriptions {\n      webPushKey\n    }\n  }\n}" as Document<PushKeyQuery, PushKeyQueryVariables>;
export const AddPush = "mutation AddPush($endpoint: String!, $p256dh: String!, $auth: String!) {\n  addPushSubscription(endpoint: $endpoint, p256dh: $p256dh, auth: $auth)\n}" as Document<AddPushMutation, AddPushMutationVariables>;
export const RemovePush = "mutation RemovePush($id: ID!) {\n  removePushSubscription(id: $id)\n}" as Document<RemovePushMutation, RemovePushMutationVariables>;
export const Contacts = "query Contacts {\n  login {\n    contacts {\n      id\n      email\n      phone\n      name\n      remark\n      lastUsed\n    }\n  }\n}" as Document<ContactsQuery, ContactsQueryVariables>;
export const Explain = "query Explain($devices: [String!]!, $recipients: [String!]!, $services: [ServiceSharingOptions!], $permissions: [SharePermission!], $scripting: Boolean, $startsAt: DateTime, $endsAt: DateTime) {\n  login {\n    explainShare(\n      deviceIds: $devices\n      email: $recipients\n      services: $services\n      permissions: $permissions\n      scripting: $scripting\n      startsAt: $startsAt\n      endsAt: $endsAt\n    ) {\n      wouldBeAccepted\n      code\n      message\n      items {\n        deviceId\n        recipient\n        outcome\n        code\n        message\n        stateBefore\n        after {\n          serviceId\n          permissions\n          scripting\n        }\n      }\n    }\n  }\n}" as Document<ExplainQuery, ExplainQueryVariables>;
export const ShareBulk = "mutation ShareBulk($operation: String!, $devices: [String!]!, $recipients: [String!]!, $services: [ServiceSharingOptions!], $permissions: [SharePermission!], $scripting: Boolean, $notify: Boolean, $startsAt: DateTime, $endsAt: DateTime, $message: String) {\n  shareBulk(\n    operationId: $operation\n    deviceIds: $devices\n    recipients: $recipients\n    services: $services\n    permissions: $permissions\n    scripting: $scripting\n    notify: $notify\n    startsAt: $startsAt\n    endsAt: $endsAt\n    message: $message\n  ) {\n    items {\n      deviceId\n      recipient\n      outcome\n      code\n      message\n    }\n  }\n}" as Document<ShareBulkMutation, ShareBulkMutationVariables>;
export const AddContact = "mutation AddContact($recipient: String!, $remark: String) {\n  addContact(recipient: $recipient, remark: $remark)\n}" as Document<AddContactMutation, AddContactMutationVariables>;
export const SetRemark = "mutation SetRemark($contact: String!, $remark: String!) {\n  setRemark(contactId: $contact, remark: $remark)\n}" as Document<SetRemarkMutation, SetRemarkMutationVariables>;
export const CreateContactCode = "mutation CreateContactCode {\n  createContactCode {\n    code\n    endsAt\n    svg\n  }\n}" as Document<CreateContactCodeMutation, CreateContactCodeMutationVariables>;
export const ScanContactCode = "mutation ScanContactCode($code: String!) {\n  scanContactCode(code: $code) {\n    id\n    name\n  }\n}" as Document<ScanContactCodeMutation, ScanContactCodeMutationVariables>;
export const GivenShares = "query GivenShares($device: String!) {\n  login {\n    shares(deviceId: $device) {\n      id\n      contactId\n      address\n      remark\n      state\n      version\n      expiresAt\n      message\n      terms {\n        ...Terms\n      }\n    }\n  }\n}\nfragment Terms on ShareTerms {\n  services {\n    serviceId\n    permissions\n  }\n  permissions\n  scripting\n  startsAt\n  endsAt\n}" as Document<GivenSharesQuery, GivenSharesQueryVariables>;
export const ChangeShare = "mutation ChangeShare($device: String!, $share: String!, $version: Int!, $terms: TermsInput!, $message: String) {\n  changeShare(\n    deviceId: $device\n    shareId: $share\n    expectedVersion: $version\n    terms: $terms\n    message: $message\n  )\n}" as Document<ChangeShareMutation, ChangeShareMutationVariables>;
export const ExplainChange = "query ExplainChange($device: String!, $share: String!, $version: Int!, $terms: TermsInput!) {\n  login {\n    explainChangeShare(\n      deviceId: $device\n      shareId: $share\n      expectedVersion: $version\n      terms: $terms\n    ) {\n      wouldBeAccepted\n      code\n      message\n      items {\n        outcome\n        after {\n          serviceId\n          permissions\n          scripting\n        }\n      }\n    }\n  }\n}" as Document<ExplainChangeQuery, ExplainChangeQueryVariables>;
export const EndShare = "mutation EndShare($device: String!, $recipients: [String!]!) {\n  share(deviceId: $device, email: $recipients, action: REMOVE)\n}" as Document<EndShareMutation, EndShareMutationVariables>;
export const Leave = "mutation Leave($device: String!) {\n  share(deviceId: $device, email: [], action: LEAVE)\n}" as Document<LeaveMutation, LeaveMutationVariables>;
export const Resend = "mutation Resend($device: String!, $share: String!) {\n  resendInvitation(deviceId: $device, shareId: $share)\n}" as Document<ResendMutation, ResendMutationVariables>;
export const RemoveRecipient = "mutation RemoveRecipient($recipient: String!) {\n  removeRecipient(recipient: $recipient)\n}" as Document<RemoveRecipientMutation, RemoveRecipientMutationVariables>;
export const PastShares = "query PastShares($given: Boolean, $after: String) {\n  login {\n    pastShares(given: $given, size: 200, after: $after) {\n      items {\n        id\n        deviceId\n        deviceName\n        given\n        state\n        owner {\n          id\n          name\n        }\n        recipient {\n          id\n          name\n          email\n        }\n        email\n        phone\n        terms {\n          ...Terms\n        }\n        requested\n        since\n        expiresAt\n        version\n      }\n      next\n    }\n  }\n}\nfragment Terms on ShareTerms {\n  services {\n    serviceId\n    permissions\n  }\n  permissions\n  scripting\n  startsAt\n  endsAt\n}" as Document<PastSharesQuery, PastSharesQueryVariables>;
export const DeviceHistory = "query DeviceHistory($device: String!, $after: String) {\n  login {\n    deviceHistory(deviceId: $device, size: 50, after: $after) {\n      items {\n        version\n        kind\n        at\n        shareId\n        recipient {\n          id\n          name\n          email\n        }\n        email\n        phone\n        state\n        terms {\n          ...Terms\n        }\n        reason\n      }\n      next\n    }\n  }\n}\nfragment Terms on ShareTerms {\n  services {\n    serviceId\n    permissions\n  }\n  permissions\n  scripting\n  startsAt\n  endsAt\n}" as Document<DeviceHistoryQuery, DeviceHistoryQueryVariables>;
export const OpenConnections = "query OpenConnections {\n  login {\n    connections(open: true, size: 200) {\n      items {\n        id\n        deviceId\n        serviceId\n        user {\n          id\n          name\n        }\n        permission\n        opened\n        inDoubt\n      }\n    }\n  }\n}" as Document<OpenConnectionsQuery, OpenConnectionsQueryVariables>;
export const DeviceConnections = "query DeviceConnections($device: String!) {\n  login {\n    connections(deviceId: $device, size: 50) {\n      items {\n        id\n        serviceId\n        user {\n          id\n          name\n        }\n        permission\n        opened\n        ended\n        outcome\n        inDoubt\n        reason\n      }\n    }\n  }\n}" as Document<DeviceConnectionsQuery, DeviceConnectionsQueryVariables>;
